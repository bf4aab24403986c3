//! The typed events against the presets: what a publisher in Rust writes is what the routes read.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use unstale_events::catalogue::{Described, endpoint_catalog, entity_repository, llm_gateway, model_catalog, subscription_plans};
use unstale_events::names::same_name;
use unstale_events::publish::to_fields;
use unstale_events::{Encoding, Event, EventType, Fields, Invalidation};

use crate::catalogue::{ENDPOINT_CATALOG, ENTITY_REPOSITORY, LLM_GATEWAY, MODEL_CATALOG, Row, SUBSCRIPTION_PLANS};
use crate::support::{router, targets};

/// Writes the row as its type does; types that are published under two names have one.
macro_rules! types {
    ($($module:ident: $($name:ident)*;)*) => {
        fn retell(kind: &str, attributes: &Map<String, Value>, encoding: Encoding) -> Fields {
            match kind.strip_suffix("Event").unwrap_or(kind) {
                $($(stringify!($name) => typed::<$module::$name>(attributes, encoding),)*)*
                _ => panic!("{kind} has no type"),
            }
        }
    };
}

types! {
    llm_gateway: VirtualKeyCreated VirtualKeyUpdated VirtualKeyDeleted SpendUpdated SpendBatchCompleted SpendThresholdExceeded
        SpendThresholdApproaching ModelCostChanged ModelMappingChanged GlobalSettingChanged IpFilterChanged ProviderCreated ProviderUpdated
        ProviderDeleted ProviderKeyCredentialCreated ProviderKeyCredentialUpdated ProviderKeyCredentialDeleted
        ProviderKeyCredentialPrimaryChanged ProviderKeyDisabled ProviderKeyReenabled AsyncTaskCreated AsyncTaskUpdated AsyncTaskDeleted
        RateLimitExceeded;
    model_catalog: ProviderCatalogChanged ProvidersBatchInvalidated ProviderDeactivated ModelSyncCompleted ModelPricingChanged ApiKeyRevoked
        CreditsChanged PlanChanged AccountUpdated;
    endpoint_catalog: EndpointPublished EndpointUnpublished EndpointPricingUpdated CatalogChanged CredentialDeleted CredentialUpdated
        UserLoggedOut UserUpdated ProjectUpdated ModelsBulkUpdated EndpointUpdated ClusterUpdated;
    entity_repository: EntityCreated EntityUpdated EntityDeleted EntityTypeCleared SessionsInvalidated ModelPriceChanged BudgetChanged
        BudgetsReset;
    subscription_plans: SubscriptionPlanCreated SubscriptionPlanUpdated SubscriptionPlanDeleted SubscriptionPlanToggled
        SubscriptionProviderEnabled SubscriptionProviderDisabled OrganizationDeleted OrganizationCacheInvalidated ProviderCacheInvalidated
        CacheCleared;
}

/// The entry of a typed event that has these attributes; what the row leaves out is the type's default.
#[track_caller]
fn typed<E: EventType + Default + DeserializeOwned + Serialize>(attributes: &Map<String, Value>, encoding: Encoding) -> Fields {
    let Ok(Value::Object(mut all)) = serde_json::to_value(E::default()) else { panic!("{} is no map", E::TYPE) };
    all.extend(attributes.clone());
    let event: E = serde_json::from_value(Value::Object(all)).unwrap_or_else(|error| panic!("{}: {error}", E::TYPE));
    to_fields(&event, encoding).unwrap_or_else(|error| panic!("{error}"))
}

/// The row's attributes under the names that the type gives them. One that the type lacks is a mistake in one of the two.
#[track_caller]
fn attributes(events: &[Described], kind: &str, row: &str) -> Map<String, Value> {
    let described = events.iter().find(|event| event.name == kind.strip_suffix("Event").unwrap_or(kind));
    let described = described.unwrap_or_else(|| panic!("{kind} is not described"));
    let named = |name: &str| {
        let attribute = described.attributes.iter().find(|attribute| same_name(attribute.name, name));
        attribute.unwrap_or_else(|| panic!("{kind} has no attribute {name}")).name.to_owned()
    };
    let row: Map<String, Value> = serde_json::from_str(&format!("{{{row}}}")).expect("rows are JSON");
    row.into_iter().map(|(name, value)| (named(&name), value)).collect()
}

#[track_caller]
fn check(preset: &str, events: &[Described], rows: &[Row]) {
    let router = router(&format!("presets = ['{preset}']"));
    for (kind, row, ..) in rows {
        let wanted = crate::catalogue::routed(&router, kind, row);
        for encoding in [Encoding::Flat, Encoding::Json, Encoding::MessagePack] {
            let fields = retell(kind, &attributes(events, kind, row), encoding);
            let event = Event::decode(&fields).unwrap_or_else(|reason| panic!("{kind}: {reason}"));
            let mut out = Invalidation::default();
            router.route(&event, &mut out);
            assert!(out.routed && out.reasons.is_empty(), "{kind} {row}: {:?}", out.reasons);
            assert_eq!((targets(&router, &out), out.priority), (targets(&router, &wanted), wanted.priority), "{kind} {row}");
        }
    }
    for event in events {
        assert!(rows.iter().any(|(kind, ..)| *kind == event.name), "no row for {}", event.name);
        let about = event.attributes.iter().map(|attribute| attribute.doc);
        assert!(!event.doc.is_empty() && about.into_iter().all(|doc| !doc.is_empty()), "{} has no words", event.name);
    }
}

#[test]
fn llm_gateway() {
    check("llm-gateway", llm_gateway::EVENTS, LLM_GATEWAY);
}

#[test]
fn model_catalog() {
    check("model-catalog", model_catalog::EVENTS, MODEL_CATALOG);
}

#[test]
fn endpoint_catalog() {
    check("endpoint-catalog", endpoint_catalog::EVENTS, ENDPOINT_CATALOG);
}

#[test]
fn entity_repository() {
    check("entity-repository", entity_repository::EVENTS, ENTITY_REPOSITORY);
}

#[test]
fn subscription_plans() {
    check("subscription-plans", subscription_plans::EVENTS, SUBSCRIPTION_PLANS);
}
