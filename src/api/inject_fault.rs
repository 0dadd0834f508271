//! InjectFault: break an actor by name, in builds for chaos tests.

use std::time::Duration;

use super::ApiContext;
use crate::actors::chaos::Fault;
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

fn inject(context: &ApiContext, request: &Request) -> Result<(), Refusal> {
    let stall = Duration::from_millis(u64::try_from(request.stall_ms).unwrap_or(0));
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
