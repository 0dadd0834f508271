//! ConsumerGroupDescribe.

use super::authorized_operations::GROUP_OPERATIONS;
use super::describe_groups::explained;
use super::ApiContext;
use crate::engine::group::{self, Answer, DescribedConsumer, DescribedConsumerGroup, Partitions};
use crate::engine::metadata::MetadataImage;
use crate::model::ErrorCode;
use crate::protocol::consumer_group_describe::{
    Assignment, DescribedGroup, Member, Request, Response, TopicPartitions, CLASSIC_MEMBER,
    CONSUMER_MEMBER,
};

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let mut groups = Vec::with_capacity(request.group_ids.len());
    for group_id in request.group_ids {
        let mut described = describe(context, group_id).await;
        if request.include_authorized_operations && described.error_code.is_ok() {
            described.authorized_operations = GROUP_OPERATIONS;
        }
        groups.push(described);
    }
    Response {
        groups,
        ..Default::default()
    }
}

async fn describe(context: &ApiContext, group_id: String) -> DescribedGroup {
    let ask = group::Request::DescribeConsumers(group_id.as_str().into());
    let described = match context.groups.ask(&group_id, ask).await {
        Ok(Answer::ConsumersDescribed(described)) => described,
        Ok(_) => Err(ErrorCode::UnknownServerError),
        Err(code) => Err(code),
    };
    match described {
        Ok(described) => group(group_id, described, &context.image()),
        Err(error_code) => DescribedGroup {
            error_code,
            error_message: explained(error_code, &group_id),
            group_id,
            ..Default::default()
        },
    }
}

fn group(
    group_id: String,
    described: DescribedConsumerGroup,
    image: &MetadataImage,
) -> DescribedGroup {
    let members = described.members.into_iter();
    DescribedGroup {
        group_id,
        group_state: described.state.name().to_owned(),
        group_epoch: described.epoch,
        assignment_epoch: described.target_epoch,
        assignor_name: described.assignor.to_owned(),
        members: members.map(|described| member(described, image)).collect(),
        ..Default::default()
    }
}

fn member(described: DescribedConsumer, image: &MetadataImage) -> Member {
    let DescribedConsumer {
        member,
        metadata,
        current,
        target,
    } = described;
    let names = metadata.topic_names.iter();
    Member {
        member_id: member.to_string(),
        instance_id: metadata.instance.map(|name| name.to_string()),
        rack_id: metadata.rack.map(|name| name.to_string()),
        member_epoch: current.epoch,
        client_id: metadata.client_id.to_string(),
        client_host: metadata.client_host.to_string(),
        subscribed_topic_names: names.map(|name| name.to_string()).collect(),
        subscribed_topic_regex: metadata.topic_regex.map(|regex| regex.to_string()),
        assignment: assignment(&current.assigned, image),
        target_assignment: assignment(&target, image),
        member_type: match metadata.classic {
            Some(_) => CLASSIC_MEMBER,
            None => CONSUMER_MEMBER,
        },
    }
}

/// Topics that are gone have no name, and are left out.
fn assignment(partitions: &Partitions, image: &MetadataImage) -> Assignment {
    let topics = partitions.by_topic();
    let topics = topics.filter_map(|(topic_id, numbers)| {
        let topic = image.topic(topic_id)?;
        Some(TopicPartitions {
            topic_id,
            topic_name: topic.name.to_string(),
            partitions: numbers.iter().copied().collect(),
        })
    });
    Assignment {
        topic_partitions: topics.collect(),
    }
}
