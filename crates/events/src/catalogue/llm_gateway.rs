//! The events of the `llm-gateway` system: a gateway to language models, with virtual keys, budgets and providers.
//!
//! Attributes that the preset's routes use are named in `presets/llm-gateway.toml` of the router; the others are for whoever else listens.

use serde::{Deserialize, Serialize};

/// What was done to a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ChangeType {
    /// It was made.
    Created,
    /// It was changed.
    #[default]
    Updated,
    /// It was removed.
    Deleted,
    /// Many were changed at once.
    BulkUpdate,
}

super::events! {
    /// A virtual key was made.
    VirtualKeyCreated {
        /// The key's id.
        key_id: i64,
        /// The hash that the key is cached by.
        key_hash: String,
        /// The name that people gave it.
        key_name: String,
        /// When, in ISO 8601.
        created_at: String,
        /// Whether it may be used.
        is_enabled: bool,
        /// The models that it may use, if they are limited.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        allowed_models: Option<String>,
        /// The group that it belongs to.
        virtual_key_group_id: i64,
    }

    /// A virtual key was changed.
    VirtualKeyUpdated {
        /// The key's id.
        key_id: i64,
        /// The hash that the key is cached by.
        key_hash: String,
        /// The names of the properties that changed, such as `IsEnabled`, `MaxBudget`, `ExpiresAt`, `AllowedModels`.
        changed_properties: Vec<String>,
    }

    /// A virtual key was deleted or revoked. Critical.
    VirtualKeyDeleted {
        /// The key's id.
        key_id: i64,
        /// The hash that the key is cached by.
        key_hash: String,
        /// The name that people gave it.
        key_name: String,
    }

    /// A request was charged to a virtual key.
    SpendUpdated {
        /// The key's id.
        key_id: i64,
        /// The hash that the key is cached by.
        key_hash: String,
        /// What the request cost.
        amount: f64,
        /// What the key has spent with it.
        new_total_spend: f64,
        /// The request.
        request_id: String,
    }

    /// The spend of many virtual keys was written at once.
    SpendBatchCompleted {
        /// The hashes that the keys are cached by.
        key_hashes: Vec<String>,
    }

    /// A virtual key has spent more than it may. Critical.
    SpendThresholdExceeded {
        /// The key's id.
        virtual_key_id: i64,
        /// The hash that the key is cached by.
        virtual_key_hash: String,
        /// The name that people gave it.
        key_name: String,
        /// What it has spent.
        current_spend: f64,
        /// What it may spend.
        max_budget: f64,
        /// The difference.
        amount_over: f64,
        /// The time that the budget is for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        budget_duration: Option<String>,
        /// When, in ISO 8601.
        exceeded_at: String,
        /// Whether the key was disabled for it.
        key_disabled: bool,
    }

    /// A virtual key has spent nearly what it may.
    SpendThresholdApproaching {
        /// The key's id.
        virtual_key_id: i64,
        /// The hash that the key is cached by.
        virtual_key_hash: String,
        /// The name that people gave it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key_name: Option<String>,
        /// What it has spent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        current_spend: Option<f64>,
        /// What it may spend.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_budget: Option<f64>,
        /// How much of the budget is spent, in percent.
        percentage_used: f64,
        /// The threshold that was passed, in percent.
        threshold_percentage: f64,
    }

    /// The price of a model was made, changed or removed.
    ModelCostChanged {
        /// The price's id; one id owns several keys.
        model_cost_id: i64,
        /// The name that it is cached by, in lower case.
        cost_name: String,
        /// What was done.
        change_type: ChangeType,
        /// The names of the properties that changed.
        changed_properties: Vec<String>,
    }

    /// A model's alias was mapped to a provider anew.
    ModelMappingChanged {
        /// The mapping's id.
        mapping_id: i64,
        /// The alias.
        model_alias: String,
        /// The provider that serves it.
        provider_id: i64,
        /// Whether it may be used.
        is_enabled: bool,
        /// What was done.
        change_type: ChangeType,
    }

    /// A setting of the whole gateway was changed. High if its key begins with `Auth`.
    GlobalSettingChanged {
        /// The setting's id.
        setting_id: i64,
        /// The key that it is cached by, in lower case.
        setting_key: String,
        /// What was done; after [`ChangeType::BulkUpdate`] all settings count as changed.
        change_type: ChangeType,
        /// The names of the properties that changed.
        changed_properties: Vec<String>,
    }

    /// A rule of who may call from where was changed.
    IpFilterChanged {
        /// The rule's id.
        filter_id: i64,
        /// The address or network.
        ip_address_or_cidr: String,
        /// Whether it allows or denies.
        filter_type: String,
        /// Whether it holds.
        is_enabled: bool,
        /// What was done.
        change_type: ChangeType,
        /// The names of the properties that changed.
        changed_properties: Vec<String>,
        /// What people wrote about it.
        description: String,
    }

    /// A provider was made.
    ProviderCreated {
        /// The provider's id.
        provider_id: i64,
        /// What kind of provider it is.
        provider_type: String,
        /// The name that people gave it.
        provider_name: String,
        /// Where it is called, if not at its usual address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base_url: Option<String>,
        /// Whether it may be used.
        is_enabled: bool,
        /// When, in ISO 8601.
        created_at: String,
    }

    /// A provider was changed. High if `IsEnabled` or `IsActive` changed.
    ProviderUpdated {
        /// The provider's id.
        provider_id: i64,
        /// Whether it may be used.
        is_enabled: bool,
        /// The names of the properties that changed.
        changed_properties: Vec<String>,
    }

    /// A provider was deleted.
    ProviderDeleted {
        /// The provider's id.
        provider_id: i64,
    }

    /// A provider was given a further credential.
    ProviderKeyCredentialCreated {
        /// The provider's id.
        provider_id: i64,
        /// The credential's id.
        key_id: i64,
    }

    /// A provider's credential was changed.
    ProviderKeyCredentialUpdated {
        /// The provider's id.
        provider_id: i64,
        /// The credential's id.
        key_id: i64,
        /// The names of the properties that changed.
        changed_properties: Vec<String>,
    }

    /// A provider's credential was deleted.
    ProviderKeyCredentialDeleted {
        /// The provider's id.
        provider_id: i64,
        /// The credential's id.
        key_id: i64,
    }

    /// A provider is called with another credential than before.
    ProviderKeyCredentialPrimaryChanged {
        /// The provider's id.
        provider_id: i64,
        /// The credential used before.
        old_primary_key_id: i64,
        /// The credential used now.
        new_primary_key_id: i64,
    }

    /// A provider's credential was taken out of use. Also published as `ProviderKeyDisabledEvent`.
    ProviderKeyDisabled {
        /// The credential's id.
        key_id: i64,
        /// The provider's id.
        provider_id: i64,
        /// Why.
        reason: String,
    }

    /// A provider's credential is used again. Also published as `ProviderKeyReenabledEvent`.
    ProviderKeyReenabled {
        /// The credential's id.
        key_id: i64,
        /// The provider's id.
        provider_id: i64,
        /// Why.
        reason: String,
    }

    /// A task was begun. Touches no cache.
    AsyncTaskCreated {
        /// The task's id.
        task_id: String,
    }

    /// A task went on.
    AsyncTaskUpdated {
        /// The task's id.
        task_id: String,
        /// How it stands.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<String>,
        /// How far it is, in percent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        progress: Option<i64>,
        /// Whether it has ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        is_completed: Option<bool>,
    }

    /// A task was deleted.
    AsyncTaskDeleted {
        /// The task's id.
        task_id: String,
    }

    /// A virtual key was used too often. Touches no cache.
    RateLimitExceeded {
        /// The key's id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        virtual_key_id: Option<i64>,
    }
}
