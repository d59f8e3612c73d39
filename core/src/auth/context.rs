//! What the check of a token is told beside the token: who checks, when, and over which channel it came.

/// Who checks a token, when, and what is known of how it came. What is not known is `None`, and what needs it refuses.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The checker's own name: `bus` for the hub.
    pub audience: &'a str,
    /// The checker's boot id. A proof, a token in which the other end speaks for itself, must name it as its serial
    /// number: made for another session of this end, or for another end, it is worth nothing.
    pub boot_id: Option<u64>,
    /// Unix seconds of a clock that can be relied on.
    pub now: Option<u64>,
    /// The channel over which the token came.
    pub channel: Channel<'a>,
}

impl<'a> Context<'a> {
    /// `audience` checks at `now`, in Unix seconds; it accepts no proofs, and knows nothing of the channel.
    pub const fn new(audience: &'a str, now: Option<u64>) -> Self {
        Self { audience, boot_id: None, now, channel: Channel { uid: None, certificate: None } }
    }

    /// Accepts proofs that were made for the checker that started with this boot id.
    #[must_use]
    pub const fn with_boot_id(mut self, boot_id: u64) -> Self {
        self.boot_id = Some(boot_id);
        self
    }

    /// Says over which channel the token came.
    #[must_use]
    pub const fn with_channel(mut self, channel: Channel<'a>) -> Self {
        self.channel = channel;
        self
    }
}

/// What a transport itself knows of the other end, whoever that says it is. Tokens can be bound to it by
/// [`Caveat::Uid`](super::Caveat::Uid) and [`Caveat::Certificate`](super::Caveat::Certificate).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Channel<'a> {
    /// The user id of the process at the other end, as the kernel or the desktop bus tells.
    pub uid: Option<u32>,
    /// The SHA-256 of the certificate that the other end has shown, in DER form.
    pub certificate: Option<&'a [u8; 32]>,
}
