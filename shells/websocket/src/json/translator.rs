//! One connection's messages: from JSON to frames, and from frames to JSON.

use std::sync::Arc;

use visorbus_core::codec::DecodeError;
use visorbus_hub::ReceiveBuffer;

use crate::json::Refusal;
use crate::protocol::WebSocketProtocol;

/// Translates the messages of one connection. One that is idle holds a few bytes.
///
/// ```no_run
/// use std::sync::Arc;
/// use visorbus_hub::ReceiveBuffer;
/// use visorbus_websocket::{WebSocketProtocol, json::Translator};
///
/// let mut translator = Translator::new(Arc::new(WebSocketProtocol::default()));
/// let mut frames = ReceiveBuffer::default();
/// let text = r#"{"message_type":"IPC","payload":{"message_type":"Request","id":"7","destination":"imu/info"}}"#;
/// translator.incoming(text, &mut frames).expect("a message");
/// let frame = &frames.as_slice()[4..];
/// assert_eq!(translator.outgoing(frame)?, text);
/// # Ok::<(), visorbus_core::codec::DecodeError>(())
/// ```
#[derive(Debug)]
pub struct Translator {
    protocol: Arc<WebSocketProtocol>,
}

impl Translator {
    /// A translator for a connection that has said nothing yet; `protocol` is what the answer to its hello tells.
    pub const fn new(protocol: Arc<WebSocketProtocol>) -> Self {
        Self { protocol }
    }

    /// Translates one text message and appends what it is to `into`: whole frames, each behind its length prefix.
    ///
    /// # Errors
    /// The text is no message: `into` is as it was, and [`Refusal`] says what to answer and whether to close.
    pub fn incoming(&mut self, text: &str, into: &mut ReceiveBuffer) -> Result<(), Refusal> {
        let _ = (text, into, &self.protocol);
        Err(Refusal { close: None, reply: None })
    }

    /// The text message of one frame (without its length prefix).
    ///
    /// # Errors
    /// The frame is not one of wire version 1.
    pub fn outgoing(&mut self, frame: &[u8]) -> Result<String, DecodeError> {
        visorbus_core::decode(frame)?;
        Ok(String::new())
    }
}
