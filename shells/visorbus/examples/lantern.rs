//! A service of one's own: a program with a hub of its own, a handler, and settings beside those of the hub.
//!
//! ```text
//! lantern --config lantern.toml
//! ```
//!
//! It serves whatever its file asks for, `unix_socket`, `websocket`, `dbus`, until somebody calls
//! `manager/shutdown`. The component `lantern` answers `lantern/light`; how bright it may be is the setting `lantern.max_brightness`,
//! which is changed by `visorbus config set`, over any transport, or in the file, and holds at once.

use visorbus::{IpcManager, Log, ManagerEvent, Settings, places, settings};
use visorbus_core::IpcError;
use visorbus_core::auth::Access;
use visorbus_core::dispatch::{Answers, Row, Typed};
use visorbus_core::message::{Address, typed::Endpoint};
use visorbus_services::config::{Category, ConfigManager, ConfigSchema, Key, Overrides};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args_os().skip_while(|arg| arg != "--config").nth(1);
    let file = file.map_or_else(places::config_file, Into::into);
    let config = ConfigManager::open(schema(), file, Overrides::from_environment())?;
    let log = Log::start(&Settings::read(&config)?.log)?;

    let mut manager = IpcManager::new(config.clone())?;
    manager.set_log(log);
    manager.register_handler(Box::new(Typed::new("lantern", ROWS, Lantern { config })))?;
    manager.initialize()?;
    println!("{}", manager.settings().unix_socket.path.display());
    manager.serve(|event| {
        if let ManagerEvent::Changed(changed) = event {
            println!("changed: {}", changed.applied.join(", "));
        }
    })?;
    println!("ended");
    Ok(())
}

/// The hub's options, and the lantern's own.
fn schema() -> ConfigSchema {
    let lantern = Category::new("lantern", "The lantern of this program.").key(
        Key::integer("max_brightness", 0..=100, 80, "How bright it is at most, whatever is asked for.")
            .unit("%"),
    );
    settings::schema_with([lantern])
}

/// `lantern/light`: how bright the lantern is to be, in percent; answers how bright it is.
struct Light;

impl Endpoint for Light {
    type Request = u8;
    type Response = u8;
    const ADDRESS: Address<'static> = Address::literal("lantern/light");
    const ACCESS: Access<'static> = Access::Permission;
}

struct Lantern {
    config: ConfigManager,
}

impl Answers<Light> for Lantern {
    fn answer(&mut self, percent: u8) -> Result<u8, IpcError> {
        if percent > 100 {
            return Err(IpcError::Message("a lantern is at most 100 percent bright"));
        }
        // What holds at this moment.
        let max = u8::try_from(self.config.integer("lantern", "max_brightness")).unwrap_or(u8::MAX);
        Ok(percent.min(max))
    }
}

static ROWS: &[Row<Lantern>] = &[Row::endpoint::<Light>()];
