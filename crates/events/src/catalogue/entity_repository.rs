//! The events of the `entity-repository` system: repositories of entities behind a cache, with sessions, prices and budgets.
//!
//! Attributes that the preset's routes use are named in `presets/entity-repository.toml` of the router; the others are for whoever else listens.

super::events! {
    /// An entity was made.
    EntityCreated {
        /// What kind of entity it is, as in its key.
        entity: String,
        /// Its id.
        entity_id: String,
    }

    /// An entity was changed.
    EntityUpdated {
        /// What kind of entity it is, as in its key.
        entity: String,
        /// Its id.
        entity_id: String,
    }

    /// An entity was deleted. High.
    EntityDeleted {
        /// What kind of entity it was, as in its key.
        entity: String,
        /// Its id.
        entity_id: String,
    }

    /// All entities of a kind count as changed. Low.
    EntityTypeCleared {
        /// The kind, as in the keys.
        entity: String,
    }

    /// All sessions count as ended. High.
    SessionsInvalidated {}

    /// A model's price was changed, or those of all models of a provider.
    ModelPriceChanged {
        /// The provider, as in the keys.
        provider: String,
        /// The model, as in the keys; without it all of the provider.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
    }

    /// A budget was changed, or what was spent of it. High.
    BudgetChanged {
        /// What kind of thing the budget is for, as in the keys.
        entity_type: String,
        /// Its id.
        entity_id: String,
    }

    /// All budgets begin anew. High.
    BudgetsReset {}
}
