//! The events of the `model-catalog` system: a catalogue of the models that providers offer, with prices, API keys and accounts.
//!
//! Attributes that the preset's routes use are named in `presets/model-catalog.toml` of the router; the others are for whoever else listens.

super::events! {
    /// A provider's models changed.
    ProviderCatalogChanged {
        /// The provider's slug.
        provider: String,
        /// Whether what is made of all providers changed with it: the full catalogue, its statistics, the unique models.
        cascade: bool,
    }

    /// The models of many providers changed at once. An empty list touches nothing.
    ProvidersBatchInvalidated {
        /// The providers' slugs.
        providers: Vec<String>,
        /// As in [`ProviderCatalogChanged`], once for all of them.
        cascade: bool,
    }

    /// A provider was taken out of the catalogue; always with the cascade.
    ProviderDeactivated {
        /// The provider's slug.
        provider: String,
        /// How many models went with it.
        delisted_count: i64,
    }

    /// Models were read anew from their providers.
    ModelSyncCompleted {
        /// The providers' slugs.
        providers: Vec<String>,
        /// How many models were read.
        total_synced: i64,
        /// How many models are not offered any more.
        total_delisted: i64,
    }

    /// A model's price was changed.
    ModelPricingChanged {
        /// The provider's slug.
        provider: String,
        /// The model's id with this provider.
        model_id: String,
        /// The names of the fields that changed.
        changed_fields: Vec<String>,
    }

    /// An API key was revoked. Critical.
    ApiKeyRevoked {
        /// Whose it was.
        user_id: i64,
        /// The key, as it is cached.
        api_key: String,
    }

    /// A user has more or fewer credits than before.
    CreditsChanged {
        /// The user's id.
        user_id: i64,
        /// The name that the user is also cached by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        username: Option<String>,
        /// The id at the identity provider that the user is also cached by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        privy_id: Option<String>,
    }

    /// A user has another plan than before.
    PlanChanged {
        /// The user's id.
        user_id: i64,
        /// The name that the user is also cached by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        username: Option<String>,
        /// The id at the identity provider that the user is also cached by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        privy_id: Option<String>,
    }

    /// Something else of a user changed.
    AccountUpdated {
        /// The user's id.
        user_id: i64,
        /// The name that the user is also cached by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        username: Option<String>,
        /// The id at the identity provider that the user is also cached by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        privy_id: Option<String>,
    }
}
