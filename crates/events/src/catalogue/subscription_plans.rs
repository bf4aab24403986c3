//! The events of the `subscription-plans` system: which plans of which providers an organization may subscribe to.
//!
//! Attributes that the preset's routes use are named in `presets/subscription-plans.toml` of the router; the others are for whoever else listens.

super::events! {
    /// A plan was made.
    SubscriptionPlanCreated {
        /// The organization's slug.
        org_slug: String,
        /// The provider.
        provider: String,
        /// The plan's id.
        subscription_id: String,
    }

    /// A plan was changed.
    SubscriptionPlanUpdated {
        /// The organization's slug.
        org_slug: String,
        /// The provider.
        provider: String,
        /// The plan's id.
        subscription_id: String,
    }

    /// A plan was deleted.
    SubscriptionPlanDeleted {
        /// The organization's slug.
        org_slug: String,
        /// The provider.
        provider: String,
        /// The plan's id.
        subscription_id: String,
    }

    /// A plan was enabled or disabled.
    SubscriptionPlanToggled {
        /// The organization's slug.
        org_slug: String,
        /// The provider.
        provider: String,
        /// The plan's id.
        subscription_id: String,
    }

    /// A provider was enabled for an organization.
    SubscriptionProviderEnabled {
        /// The organization's slug.
        org_slug: String,
        /// The provider.
        provider: String,
    }

    /// A provider was disabled for an organization.
    SubscriptionProviderDisabled {
        /// The organization's slug.
        org_slug: String,
        /// The provider.
        provider: String,
    }

    /// An organization was deleted. High.
    OrganizationDeleted {
        /// The organization's slug.
        org_slug: String,
        /// The providers whose plans may be cached for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        providers: Option<Vec<String>>,
    }

    /// All of an organization counts as changed. High.
    OrganizationCacheInvalidated {
        /// The organization's slug.
        org_slug: String,
        /// The providers whose plans may be cached for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        providers: Option<Vec<String>>,
    }

    /// The plans of one provider count as changed.
    ProviderCacheInvalidated {
        /// The organization's slug.
        org_slug: String,
        /// The provider.
        provider: String,
    }

    /// Everything counts as changed. Low.
    CacheCleared {
        /// Why.
        reason: String,
    }
}
