//! The events of the `endpoint-catalog` system: published endpoints of models, with credentials, users, projects and clusters.
//!
//! Attributes that the preset's routes use are named in `presets/endpoint-catalog.toml` of the router; the others are for whoever else listens.

super::events! {
    /// An endpoint was published.
    EndpointPublished {
        /// The endpoint's id.
        endpoint_id: String,
    }

    /// An endpoint was taken out of the catalogue. High.
    EndpointUnpublished {
        /// The endpoint's id.
        endpoint_id: String,
    }

    /// An endpoint costs something else than before.
    EndpointPricingUpdated {
        /// The endpoint's id.
        endpoint_id: String,
    }

    /// The catalogue changed as a whole.
    CatalogChanged {}

    /// A credential was deleted. Critical.
    CredentialDeleted {
        /// The hash that the credential is cached by.
        hashed_key: String,
        /// The project that it was for.
        project_id: String,
    }

    /// A credential was changed. Critical.
    CredentialUpdated {
        /// The hash that the credential is cached by.
        hashed_key: String,
        /// The project that it is for.
        project_id: String,
    }

    /// A user ended a session. High.
    UserLoggedOut {
        /// The user's id.
        user_id: String,
    }

    /// A user was changed.
    UserUpdated {
        /// The user's id.
        user_id: String,
    }

    /// A project was changed.
    ProjectUpdated {
        /// The project's id.
        project_id: String,
    }

    /// Many models changed at once. Low.
    ModelsBulkUpdated {}

    /// An endpoint was changed: its state, its metrics, its workers.
    EndpointUpdated {
        /// The endpoint's id.
        endpoint_id: String,
    }

    /// A cluster was changed, or the list of clusters alone.
    ClusterUpdated {
        /// The cluster's id, if it is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cluster_id: Option<String>,
    }
}
