//! Encoding and decoding a 64-byte message, beside bare postcard doing the same with the same parts.
//!
//! And an IMU sample of a JSON client, as text to a frame and back.
//!
//! `cargo bench -p visorbus-tests --bench codec` prints times and what was allocated: nothing, but for the text that goes to a JSON client.

use std::sync::Arc;

use divan::{AllocProfiler, Bencher, black_box};
use serde::{Deserialize, Serialize};
use visorbus_core::frame::length::PREFIX_LEN;
use visorbus_core::message::{Address, Message, MessagePayload};
use visorbus_core::{codec, decode, encode};
use visorbus_hub::ReceiveBuffer;
use visorbus_websocket::WebSocketProtocol;
use visorbus_websocket::json::Translator;

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

fn main() {
    println!(
        "a message of {} bytes; the same parts in bare postcard are {} bytes",
        ours().len(),
        bare().len()
    );
    divan::main();
}

/// The same parts as a plain serde type: what a program without the message plane would send.
#[derive(Serialize, Deserialize)]
struct Bare<'a> {
    head: u8,
    parts: u8,
    id: u64,
    source: &'a str,
    destination: &'a str,
    timeout_ms: u32,
    payload: &'a [u8],
}

const PAYLOAD: [u8; 39] = [0xa5; 39];

fn message() -> Message<'static> {
    let mut message = Message::request(300, Address::literal("imu/set-rate"));
    message.source = Some(Address::literal("cli.1"));
    message.flags.timeout_ms = Some(500);
    message.with_payload(MessagePayload::Binary(&PAYLOAD))
}

fn parts() -> Bare<'static> {
    Bare {
        head: 0x28,
        parts: 0x12,
        id: 300,
        source: "cli.1",
        destination: "imu/set-rate",
        timeout_ms: 500,
        payload: &PAYLOAD,
    }
}

fn ours() -> Vec<u8> {
    let mut out = [0; 128];
    let len = encode(&message(), &mut out).expect("128 bytes are enough");
    out[..len].to_vec()
}

fn bare() -> Vec<u8> {
    postcard::to_stdvec(&parts()).expect("every part has a postcard form")
}

#[divan::bench]
fn encode_visorbus(bencher: Bencher) {
    let message = message();
    let mut out = [0; 128];
    bencher.bench_local(|| encode(black_box(&message), black_box(&mut out)));
}

#[divan::bench]
fn encode_postcard(bencher: Bencher) {
    let parts = parts();
    let mut out = [0; 128];
    bencher
        .bench_local(|| postcard::to_slice(black_box(&parts), black_box(&mut out)).map(|bytes| bytes.len()));
}

#[divan::bench]
fn decode_visorbus(bencher: Bencher) {
    let frame = ours();
    bencher.bench_local(|| decode(black_box(&frame)).map(|message| black_box(message).id));
}

#[divan::bench]
fn decode_postcard(bencher: Bencher) {
    let frame = bare();
    bencher
        .bench_local(|| postcard::from_bytes::<Bare<'_>>(black_box(&frame)).map(|bare| black_box(bare).id));
}

#[divan::bench]
fn encode_header_visorbus(bencher: Bencher) {
    let message = message();
    let mut out = [0; 128];
    bencher.bench_local(|| codec::encode_header(black_box(&message), black_box(&mut out)));
}

#[divan::bench]
fn json_sample_in(bencher: Bencher) {
    let (mut translator, mut frames) = (translator(), ReceiveBuffer::default());
    bencher.bench_local(|| {
        frames.clear();
        translator.incoming(black_box(SAMPLE), &mut frames)
    });
}

#[divan::bench]
fn json_sample_out(bencher: Bencher) {
    let (mut translator, mut frames) = (translator(), ReceiveBuffer::default());
    translator.incoming(SAMPLE, &mut frames).expect("a sample is a message");
    let frame = frames.as_slice()[PREFIX_LEN..].to_vec();
    bencher.bench_local(|| translator.outgoing(black_box(&frame)));
}

fn translator() -> Translator {
    Translator::new(Arc::new(WebSocketProtocol::default()))
}

const SAMPLE: &str = concat!(
    r#"{"message_type":"IPC","payload":{"id":"4711","message_type":"Notification","source":"imu","#,
    r#""destination":"imu/sample","payload":{"Json":{"timestamp_us":1795355995,"accel":[0.01,-0.02,9.81],"#,
    r#""gyro":[0.001,0.002,-0.003]}},"timestamp":1795355995227131,"uncertainty_us":120}}"#,
);
