//! What must be so between the limits of a hub.

use visorbus_hub::Limits;
use visorbus_services::config::ConfigError;

/// Checks that no limit makes another one void.
pub(super) fn validate(limits: &Limits) -> Result<(), ConfigError> {
    let refuse = |key, text: String| Err(ConfigError::conflict("limits", key, text));
    let frame = limits.max_frame as usize;
    if limits.queue_bytes < frame {
        return refuse(
            "queue_bytes",
            format!("a frame of max_frame ({frame} bytes) could never wait: set at least that"),
        );
    }
    if limits.max_request_ms < limits.request_ms {
        return refuse(
            "max_request_ms",
            format!("is shorter than request_ms ({} ms), which every request may take", limits.request_ms),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_void_each_other_are_refused() {
        let mut limits = Limits { queue_bytes: 100, ..Limits::default() };
        assert!(validate(&limits).unwrap_err().to_string().contains("'limits.queue_bytes'"));
        limits = Limits { max_request_ms: 10, ..Limits::default() };
        assert!(validate(&limits).unwrap_err().to_string().contains("'limits.max_request_ms'"));
        assert_eq!(validate(&Limits::default()), Ok(()));
    }
}
