//! The guard: what async-raft 0.6.1 gets wrong between voters is put right on its way in and out.
//!
//! As it comes, async-raft loses acknowledged entries, commits what only the leader holds, and can
//! elect nobody for good. Each rule here stands against one of these
//! (`docs/adr/0002-metadata-by-async-raft.md`). The decisions are plain functions of a message and
//! a log, so that a test can ask them anything.
//!
//! All that is wrong with it, what is done against it, here and elsewhere, and the test in `raft::tests` that fails
//! without that:
//!
//! | | async-raft | Rule | Test |
//! |---|---|---|---|
//! | 1 | On a mismatch of terms a follower answers with its own last index, which the leader takes for a match | `receive`: a place below the conflict | `guard::an_entry_of_another_term_is_no_match_…` |
//! | 2 | Such a follower is never repaired, at some 400 messages a second | `receive` | `voters::a_voter_with_other_entries_gets_the_leaders_…` |
//! | 3 | The log is cut after `prev` where the entries are the same: a late message erases what was acknowledged | `receive`: what is there is stripped | `guard::a_message_that_is_late_or_comes_twice_removes_nothing` |
//! | 4 | A heartbeat's `prev` isn't looked at, and its commit index is believed | `receive`: no more is committed than is verified | `guard::a_log_that_differs_commits_nothing_of_it`, `guard::nothing_is_committed_beyond_what_is_verified_…` |
//! | 5 | After `prev` = 0 entries are appended without removing any | `log` replaces from the first index on | `guard::what_is_new_goes_after_…`, `entries_that_are_not_applied_are_replaced_in_one_step` |
//! | 6 | Entries are applied twice or not at all when the leader changes | `state`: from the own log, each once | `entries_are_applied_from_the_own_log_…`, `a_proposal_that_was_written_twice_takes_effect_once` |
//! | 7 | A new leader believes its followers to have all of its log, and announces that as committed | `send`: entries of its own term, or what is applied | `guard::a_leader_announces_only_entries_of_its_own_term_…` |
//! | 8 | Votes compare term *and* index, so that two of three may elect nobody | `vote` | `guard::a_candidate_with_a_later_term_is_never_behind`, `voters::two_of_three_elect_a_leader_…` |
//! | 9 | Half a minute before the first election after a start | `voter::begin` | `faults::voters_that_all_restart_elect_a_leader_at_once_…` |
//! | 10 | Who has caught up isn't sent what isn't committed yet, until there is another write | `leadership::repair` | `faults::a_follower_that_has_caught_up_gets_what_is_new_…` |
//! | 11 | A full channel drops an entry, which leaves a hole that the follower accepts | `receive`; `log` accepts no hole | `guard::a_message_with_a_hole_is_refused_as_a_whole`, `what_is_applied_is_never_truncated_and_the_log_gets_no_hole` |
//! | 12 | Streams spin when the network refuses at once, and outlive their leader's term | `network` rests; `send` ends them | `voters::a_follower_that_is_down_costs_a_few_messages_a_second`, `guard::a_stream_of_a_term_that_is_over_ends` |
//! | 13 | A leader that is cut off stays leader, and what it is asked hangs | `leadership`, `proposer` | `voters::a_leader_that_is_cut_off_says_so_…` |
//! | 14 | A panic while entries are applied is swallowed | `state`: it is a fault | `faults::a_panic_while_an_entry_is_applied_stops_the_node_…` |
//! | 15 | `client_read` needs one vote too few | it isn't used: `Raft::barrier` is a write | `faults::a_leader_that_is_alone_knows_nothing_to_be_the_latest` |
//!
//! And its snapshots, which nothing here uses: `guard::a_stream_that_needs_what_is_cut_…`, and `away` for what is
//! done instead.

pub(super) mod receive;
pub(super) mod send;
pub(super) mod vote;
