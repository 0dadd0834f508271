//! InjectFault: break an actor by name, or fill the disk, in builds for chaos tests.

use std::time::Duration;

use super::ApiContext;
use crate::actors::chaos::{DiskFault, Fault};
use crate::model::{ErrorCode, Refusal};
use crate::protocol::inject_fault::{Request, Response};

pub fn answer(context: &ApiContext, request: Request) -> Response {
    match inject(context, &request) {
        Ok(()) => Response {
            error_code: ErrorCode::None,
            error_message: None,
        },
        Err(refusal) => Response {
            error_code: refusal.code,
            error_message: refusal.into_message(),
        },
    }
}

/// What is no actor.
const DISK: &str = "disk";

fn inject(context: &ApiContext, request: &Request) -> Result<(), Refusal> {
    let amount = u64::try_from(request.amount).unwrap_or(0);
    if request.kind == DISK {
        return inject_into_disk(&request.fault, amount);
    }
    let stall = Duration::from_millis(amount);
    let fault = match request.fault.as_str() {
        "stop" => Fault::Stop,
        "panic" => Fault::Panic,
        "stall" => Fault::Stall(stall),
        other => {
            let message = format!("a fault is stop, panic or stall, and not {other:?}");
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
    };
    let found = context.registry.find(&request.kind, &request.name);
    let injected = found.is_some_and(|vitals| vitals.fault_line.inject(fault));
    if injected {
        return Ok(());
    }
    let message = format!("there is no {} {:?} to break", request.kind, request.name);
    Err(Refusal::new(ErrorCode::InvalidRequest, message))
}

fn inject_into_disk(fault: &str, amount: u64) -> Result<(), Refusal> {
    let fault = match fault {
        "fill" => DiskFault::Fill { room_bytes: amount },
        "free" => DiskFault::Free,
        other => {
            let message = format!("a disk's fault is fill or free, and not {other:?}");
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
    };
    fault.inject();
    Ok(())
}
