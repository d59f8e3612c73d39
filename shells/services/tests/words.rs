//! What is one of several is called the same wherever it is written: by serde, and by whoever goes by its schema.

use postcard_schema::Schema;
use postcard_schema::schema::DataModelType;
use serde::Serialize;
use visorbus_services::config::Applies;
use visorbus_services::monitoring::{AlertState, HealthStatus, MetricKind, Severity, ThresholdState};

/// Each of these with the word that it has in texts for people.
fn check<T: Schema + Serialize>(all: &[(T, &str)]) {
    let DataModelType::Enum(described) = T::SCHEMA.ty else { panic!("{} is one of several", T::SCHEMA.name) };
    assert_eq!(described.len(), all.len(), "{}", T::SCHEMA.name);
    for (one, word) in all {
        assert_eq!(serde_json::to_value(one).unwrap(), *word);
        // In postcard it is its number.
        let number = usize::from(postcard::to_stdvec(one).unwrap()[0]);
        assert_eq!(described[number].name, *word, "{}", T::SCHEMA.name);
    }
}

#[test]
fn a_status_is_one_word_in_serde_in_its_schema_and_for_people() {
    use AlertState::{Cleared, Raised};
    use HealthStatus::{Degraded, Failing};
    use Severity::{Critical, Info, Warning};
    check(&[HealthStatus::Ok, Degraded, Failing].map(|one| (one, one.as_str())));
    check(&[(Raised, "raised"), (Cleared, "cleared")]);
    check(&[Info, Warning, Critical].map(|one| (one, one.as_str())));
    let states =
        [ThresholdState::Unknown, ThresholdState::Ok, ThresholdState::Pending, ThresholdState::Raised];
    check(&states.map(|one| (one, one.as_str())));
    check(&[(MetricKind::Gauge, "gauge"), (MetricKind::Counter, "counter")]);
    check(&[(Applies::AtOnce, "at_once"), (Applies::AtRestart, "at_restart")]);
}
