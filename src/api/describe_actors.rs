//! DescribeActors: the actors of this broker at work. Nobody is asked, so an actor that hangs can
//! be seen to hang.

use super::ApiContext;
use crate::model::Timestamp;
use crate::protocol::describe_actors::{ActorDescription, Request, Response};

pub fn answer(context: &ApiContext, request: Request) -> Response {
    let now = Timestamp::now();
    let asked = |kind: &str| request.kind.as_deref().is_none_or(|asked| asked == kind);
    let actors = context.registry.all();
    let actors = actors.iter().filter(|vitals| asked(vitals.kind().name()));
    let describe = actors.map(|vitals| ActorDescription {
        kind: vitals.kind().to_string(),
        name: vitals.name().to_owned(),
        state: vitals.state().name().to_owned(),
        mailbox_depth: vitals.mailbox_depth(),
        messages_handled: vitals.messages_handled(),
        restarts: vitals.restarts(),
        age_ms: vitals.age_ms(now),
        detail: vitals.detail(),
    });
    Response {
        actors: describe.collect(),
    }
}
