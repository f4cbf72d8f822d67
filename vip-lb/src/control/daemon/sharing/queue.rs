//! What waits to be told to a peer of flows, in order.

use std::collections::VecDeque;

use crate::peering::{flows::Flows, message::Message};

/// What waits.
#[derive(Default)]
pub(super) struct Queue {
    messages: VecDeque<Message>,
    /// What was to be told is forgotten, and comes again.
    begins_again: bool,
    /// It is to be told that it knows all, once it has been told.
    ends_preparation: bool,
}

impl Queue {
    /// Adds what there is to tell.
    pub(super) fn tell(&mut self, flows: &[Flows]) {
        self.messages.extend(flows.iter().map(|flows| Message::Flows(Box::new(flows.clone()))));
        self.begins_again = false;
        if std::mem::take(&mut self.ends_preparation) {
            self.end_preparation();
        }
    }

    /// Asks it to tell what it has recorded.
    pub(super) fn ask_to_prepare(&mut self) {
        self.messages.push_back(Message::Prepare);
    }

    /// Says that all was told.
    pub(super) fn end_preparation(&mut self) {
        if self.begins_again {
            self.ends_preparation = true;
        } else {
            self.messages.push_back(Message::Prepared);
        }
    }

    /// Forgets what there is to tell, which all comes again. Somebody waits for the rest.
    pub(super) fn begin_again(&mut self) {
        self.begins_again = true;
        self.ends_preparation |= self.messages.contains(&Message::Prepared);
        self.messages.retain(|message| matches!(message, Message::Prepare));
    }

    /// What comes next.
    pub(super) fn next(&self) -> Option<&Message> {
        self.messages.front()
    }

    /// Goes on with what follows.
    pub(super) fn took(&mut self) {
        self.messages.pop_front();
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && !self.begins_again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They were forgotten, and a hand-over waited for them in vain.
    #[test]
    fn who_is_told_everything_again_is_still_asked_and_answered() {
        let mut queue = Queue::default();
        let [news, all] = [false, true].map(|whole| Flows { whole, ..Flows::default() });
        queue.tell(&[news]);
        queue.ask_to_prepare();
        queue.end_preparation();
        queue.begin_again();
        assert!(!queue.is_empty());
        queue.tell(std::slice::from_ref(&all));
        let expected = [Message::Prepare, Message::Flows(Box::new(all)), Message::Prepared];
        assert_eq!(queue.messages, expected, "that all was told comes after all");
        queue.tell(&[]);
        assert_eq!(queue.len(), 3, "and once");
        queue.begin_again();
        queue.end_preparation();
        assert_eq!(queue.messages, [Message::Prepare]);
    }
}
