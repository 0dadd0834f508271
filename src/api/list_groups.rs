//! ListGroups: the groups that this broker coordinates. Who wants all asks all brokers.

use super::ApiContext;
use crate::engine::group::{self, Answer};
use crate::model::ErrorCode;
use crate::protocol::list_groups::{ListedGroup, Request, Response};

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let passes = |filter: &[String], value: &str| {
        filter.is_empty()
            || filter
                .iter()
                .any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    let mut response = Response::default();
    for answer in context.groups.ask_all(group::Request::List).await {
        let listed = match answer {
            Ok(Answer::Listed(listed)) => listed,
            Ok(_) => Vec::new(),
            // It has gone elsewhere, with its groups.
            Err(ErrorCode::NotCoordinator) => Vec::new(),
            Err(code) => {
                response.error_code = code;
                Vec::new()
            }
        };
        let listed = listed.into_iter();
        let wanted = listed.filter(|group| {
            passes(&request.states_filter, group.state)
                && passes(&request.types_filter, group.protocol.name())
        });
        response.groups.extend(wanted.map(|group| ListedGroup {
            group_id: group.group.to_string(),
            protocol_type: group.protocol_type.to_string(),
            group_state: group.state.to_owned(),
            group_type: group.protocol.name().to_owned(),
        }));
    }
    response
}
