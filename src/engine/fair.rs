//! The waiting requests and their order: virtual token counters (Sheng et al., "Fairness in Serving Large Language
//! Models", OSDI 2024), with weights. Pure: has no clock and decodes nothing. Batching thread only.
//!
//! Each account has a counter of the work that it got, divided by its weight. Of the accounts with waiting requests,
//! the one with the lowest counter is next. An account that begins to wait starts at the lowest counter of the waiting
//! accounts, so that it can't save up turns while it is absent. Work is charged when it is known: a prompt's tokens
//! that aren't in the cache when its request is admitted, generated tokens as they come. So the work of two accounts
//! that both wait differs by at most what the slots hold (theorem 4.4).
//!
//! The two classes have such counters, too: interactive has the turn unless batch got less than its part. While batch has its part, an
//! interactive request that waits may take the slot of a batch request that runs (`may_displace`).
//!
//! An account whose request finds its beginning in the cache may go before the one in turn, while it is ahead of it by a bounded credit:
//! so a ready beginning is used before others' cells take its place.
//!
//! Within an account the lower priority goes first, of equal ones the first to come. Where all requests are of one account, that is
//! all, and nothing is counted.

use std::collections::VecDeque;

use crate::types::limits::{ACCOUNTS_REMEMBERED_MAX, BATCH_SHARE_PERCENT, READY_ACCOUNTS_MAX, READY_CREDIT_WORK};
use crate::types::{AccountId, Class, Share};

/// Steps of a counter for one unit of work at weight 1; see `WEIGHT_MAX`.
const UNIT: u64 = 1 << 20;

/// A request's place within its account: its priority, then its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueuePlace {
    /// Lower goes first.
    pub priority: i32,
    /// The number of arrivals before it.
    pub ticket: u64,
}

/// The waiting requests, in the order in which they are admitted.
#[derive(Debug)]
pub struct FairQueue<T> {
    /// Requests that were admitted once and preempted. They go before all others, in this order.
    returned: VecDeque<T>,
    /// Accounts with waiting requests, and remembered ones, in no order.
    accounts: Vec<FairAccount<T>>,
    classes: [ClassCounter; Class::ALL.len()],
    /// The class whose last waiting request was taken most recently.
    last_class: Class,
    len: usize,
}

/// The place of the next request, from `FairQueue::turn_by`: its account's, or `None` for what was set back. Good until the queue changes.
#[derive(Clone, Copy, Debug)]
pub struct FairTurn(Option<usize>);

#[derive(Debug)]
struct FairAccount<T> {
    id: AccountId,
    class: Class,
    /// Of its latest request.
    weight: u64,
    counter: u64,
    /// Its waiting requests, in the order of their places.
    waiting: VecDeque<(QueuePlace, T)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct ClassCounter {
    counter: u64,
    /// Waiting requests of the class.
    waiting: usize,
    /// Work that was charged in advance, in steps of the counter: prompt tokens of running requests that aren't decoded
    /// yet.
    unread: u64,
    /// The account whose last waiting request was taken most recently.
    last: Option<AccountId>,
}

impl<T> FairQueue<T> {
    /// An empty queue.
    pub fn new() -> FairQueue<T> {
        FairQueue {
            returned: VecDeque::new(),
            accounts: Vec::new(),
            classes: Default::default(),
            last_class: Class::Interactive,
            len: 0,
        }
    }

    /// The number of waiting requests.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no request waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All waiting requests, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let waiting = self.accounts.iter().flat_map(|account| account.waiting.iter().map(|(_, item)| item));
        self.returned.iter().chain(waiting)
    }

    /// Requests that were preempted, in their order.
    pub fn returned(&self) -> impl Iterator<Item = &T> {
        self.returned.iter()
    }

    /// Whether there is more than one account. Only then is work counted.
    pub fn is_shared(&self) -> bool {
        self.accounts.len() > 1
    }

    /// Whether a request with this share belongs to another account than all requests so far.
    pub fn would_share(&self, share: &Share) -> bool {
        self.accounts.first().is_some_and(|first| self.is_shared() || !first.is_of(share))
    }

    /// Adds a waiting request at its place. If there are several accounts, all work must have been charged before.
    pub fn push(&mut self, share: &Share, place: QueuePlace, item: T) {
        let index = self.find(share).unwrap_or_else(|| self.open(share));
        if self.accounts[index].waiting.is_empty() {
            self.lift(index);
        }
        self.accounts[index].weight = share.weight.get().into();
        let waiting = &mut self.accounts[index].waiting;
        let behind = match waiting.back() {
            Some((last, _)) if *last > place => waiting.partition_point(|(other, _)| *other < place),
            _ => waiting.len(),
        };
        waiting.insert(behind, (place, item));
        self.classes[share.class as usize].waiting += 1;
        self.len += 1;
    }

    /// Puts a request that was admitted before back to the head of the queue.
    pub fn put_back(&mut self, item: T) {
        self.returned.push_front(item);
        self.len += 1;
    }

    /// The next request to admit; `None`: none waits.
    pub fn next(&self) -> Option<&T> {
        self.returned.front().or_else(|| {
            let (_, item) = self.accounts[self.turn()?].waiting.front()?;
            Some(item)
        })
    }

    /// Removes the next request and returns it.
    pub fn pop(&mut self) -> Option<T> {
        let turn = if self.returned.is_empty() { FairTurn(Some(self.turn()?)) } else { FairTurn(None) };
        self.take(turn)
    }

    /// The place of the request to take next: that of `next`, unless the request of another account `is_ready`, of the same class and
    /// ahead by `READY_CREDIT_WORK` at most. Of several, the account with the least counter.
    pub fn turn_by(&self, is_ready: impl Fn(&T) -> bool) -> Option<FairTurn> {
        if !self.returned.is_empty() {
            return Some(FairTurn(None));
        }
        let least = self.turn()?;
        let front = |index: usize| self.accounts[index].waiting.front().map(|(_, item)| item);
        if !self.is_shared() || front(least).is_some_and(&is_ready) {
            return Some(FairTurn(Some(least)));
        }
        let FairAccount { class, counter: floor, .. } = self.accounts[least];
        let may_go = |account: &FairAccount<T>| {
            account.waits_in(class) && account.counter <= floor + steps(READY_CREDIT_WORK, account.weight)
        };
        let able = self.accounts.iter().enumerate().filter(|(_, account)| may_go(account));
        let mut able: Vec<(u64, usize)> = able.map(|(index, account)| (account.counter, index)).collect();
        able.sort_unstable();
        let looked_at = able.into_iter().take(READY_ACCOUNTS_MAX).map(|(_, index)| index);
        let ready = looked_at.filter(|index| *index != least).find(|index| front(*index).is_some_and(&is_ready));
        Some(FairTurn(Some(ready.unwrap_or(least))))
    }

    /// The request whose turn it is.
    pub fn get(&self, turn: FairTurn) -> Option<&T> {
        match turn.0 {
            None => self.returned.front(),
            Some(index) => self.accounts[index].waiting.front().map(|(_, item)| item),
        }
    }

    /// Takes the request whose turn it is.
    pub fn take(&mut self, turn: FairTurn) -> Option<T> {
        let Some(index) = turn.0 else {
            let item = self.returned.pop_front()?;
            self.len -= 1;
            return Some(item);
        };
        let (_, item) = self.accounts[index].waiting.pop_front()?;
        self.gone(index, 1);
        Some(item)
    }

    /// Removes all requests for which `leaves` holds, and returns them.
    pub fn remove_if(&mut self, leaves: impl Fn(&T) -> bool) -> Vec<T> {
        let mut removed = Vec::new();
        for item in std::mem::take(&mut self.returned) {
            if leaves(&item) { removed.push(item) } else { self.returned.push_back(item) }
        }
        self.len -= removed.len();
        for index in 0..self.accounts.len() {
            let before = removed.len();
            for (place, item) in std::mem::take(&mut self.accounts[index].waiting) {
                if leaves(&item) { removed.push(item) } else { self.accounts[index].waiting.push_back((place, item)) }
            }
            self.gone(index, removed.len() - before);
        }
        removed
    }

    /// Charges a request's account: its work has grown from `before` to `now`.
    pub fn charge(&mut self, share: &Share, before: u64, now: u64) {
        let Some(index) = self.find(share) else { return };
        let counter = &mut self.accounts[index].counter;
        *counter = moved(*counter, before, now, u64::from(share.weight.get()));
        let class = &mut self.classes[share.class as usize].counter;
        *class = moved(*class, before, now, part_of(share.class));
    }

    /// Sets, for each class, the work charged for prompt tokens of running requests that aren't decoded yet.
    pub fn charged_unread(&mut self, work: [u64; Class::ALL.len()]) {
        for (class, work) in Class::ALL.into_iter().zip(work) {
            self.classes[class as usize].unread = steps(work, part_of(class));
        }
    }

    /// Whether requests of this class wait, not counting those that were preempted for lack of room.
    pub fn waits(&self, class: Class) -> bool {
        self.classes[class as usize].waiting > 0
    }

    /// Whether a waiting interactive request may take the slot of a running batch request: it is next, and batch has at
    /// least its share.
    pub fn may_displace(&self) -> bool {
        let [interactive, batch] = &self.classes;
        self.is_shared() && self.returned.is_empty() && interactive.waiting > 0 && batch.counter >= interactive.counter
    }

    /// The class that is next; `None`: no account has a waiting request.
    pub fn class_in_turn(&self) -> Option<Class> {
        let [interactive, batch] = &self.classes;
        match (interactive.waiting > 0, batch.waiting > 0) {
            (false, false) => None,
            (true, false) => Some(Class::Interactive),
            (false, true) => Some(Class::Batch),
            (true, true) if batch.counter < interactive.counter => Some(Class::Batch),
            (true, true) => Some(Class::Interactive),
        }
    }

    /// The index of the account that is next.
    fn turn(&self) -> Option<usize> {
        if let [only] = self.accounts.as_slice() {
            return (!only.waiting.is_empty()).then_some(0);
        }
        let class = self.class_in_turn()?;
        let waiting = self.accounts.iter().enumerate().filter(|(_, account)| account.waits_in(class));
        let by_counter = |(_, account): &(usize, &FairAccount<T>)| {
            let first = account.waiting.front().map(|(place, _)| place.ticket);
            (account.counter, first)
        };
        waiting.min_by_key(by_counter).map(|(index, _)| index)
    }

    fn find(&self, share: &Share) -> Option<usize> {
        self.accounts.iter().position(|account| account.is_of(share))
    }

    /// Makes an account for `share`, and returns its index.
    fn open(&mut self, share: &Share) -> usize {
        if self.accounts.len() >= ACCOUNTS_REMEMBERED_MAX {
            self.forget_one();
        }
        let (id, class, weight) = (share.account, share.class, share.weight.get().into());
        self.accounts.push(FairAccount { id, class, weight, counter: 0, waiting: VecDeque::new() });
        self.accounts.len() - 1
    }

    /// Forgets the account with the lowest counter among those without waiting requests. If it comes back, it is lifted
    /// to about the same counter.
    fn forget_one(&mut self) {
        let is_idle = |account: &FairAccount<T>| {
            account.waiting.is_empty() && self.classes[account.class as usize].last != Some(account.id)
        };
        let idle = self.accounts.iter().enumerate().filter(|(_, account)| is_idle(account));
        if let Some((index, _)) = idle.min_by_key(|(_, account)| account.counter) {
            self.accounts.swap_remove(index);
        }
    }

    /// An account begins to wait: its counter, and its class's, are raised to the lowest of the waiting ones, or if
    /// none waits, to that of the last that did.
    fn lift(&mut self, index: usize) {
        let class = self.accounts[index].class;
        let least = self.accounts.iter().filter(|account| account.waits_in(class)).map(|account| account.counter).min();
        let own = &self.classes[class as usize];
        let of_last = || {
            let last = self.accounts.iter().find(|account| account.class == class && Some(account.id) == own.last)?;
            Some(last.counter)
        };
        let floor = least.or_else(of_last).unwrap_or(0);
        let counter = &mut self.accounts[index].counter;
        *counter = floor.max(*counter);

        let other = match class {
            Class::Interactive => Class::Batch,
            Class::Batch => Class::Interactive,
        };
        let is_behind = self.classes[other as usize].waiting > 0 || self.last_class == other;
        if self.classes[class as usize].waiting == 0 && is_behind {
            let ClassCounter { counter, unread, .. } = self.classes[other as usize];
            // If batch requests may be displaced, the work that was charged for tokens they didn't get is given back.
            let floor = if class == Class::Interactive { counter.saturating_sub(unread) } else { counter };
            let counter = &mut self.classes[class as usize].counter;
            *counter = floor.max(*counter);
        }
    }

    /// Counts `n` requests of the account at `index` as no longer waiting.
    fn gone(&mut self, index: usize, n: usize) {
        if n == 0 {
            return;
        }
        self.len -= n;
        let account = &self.accounts[index];
        let class = &mut self.classes[account.class as usize];
        class.waiting -= n;
        if account.waiting.is_empty() {
            class.last = Some(account.id);
        }
        if class.waiting == 0 {
            self.last_class = account.class;
        }
    }
}

impl<T> FairAccount<T> {
    fn is_of(&self, share: &Share) -> bool {
        self.id == share.account && self.class == share.class
    }

    fn waits_in(&self, class: Class) -> bool {
        self.class == class && !self.waiting.is_empty()
    }
}

/// The weight of a class beside the other.
fn part_of(class: Class) -> u64 {
    u64::from(match class {
        Class::Interactive => 100 - BATCH_SHARE_PERCENT,
        Class::Batch => BATCH_SHARE_PERCENT,
    })
}

/// The counter after work has grown from `before` to `now`. Both are converted to whole steps, so that many small
/// charges add up to one large one.
fn moved(counter: u64, before: u64, now: u64, weight: u64) -> u64 {
    (counter + steps(now, weight)).saturating_sub(steps(before, weight))
}

/// The steps by which `work` moves a counter of weight `weight`.
fn steps(work: u64, weight: u64) -> u64 {
    work.saturating_mul(UNIT) / weight
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Weight;

    fn share(account: u64, weight: u32, class: Class) -> Share {
        let weight = Weight::new(weight).expect("within bounds");
        Share { account: AccountId(account), weight, class, priority: 0 }
    }

    /// A queue whose items are numbered in the order of arrival.
    struct Queue {
        fair: FairQueue<u64>,
        tickets: u64,
    }

    impl Queue {
        fn new() -> Queue {
            Queue { fair: FairQueue::new(), tickets: 0 }
        }

        fn push(&mut self, share: Share) -> u64 {
            self.tickets += 1;
            let place = QueuePlace { priority: share.priority, ticket: self.tickets };
            self.fair.push(&share, place, self.tickets);
            self.tickets
        }

        /// Takes the next item `n` times, each time for `work`. Returns the items.
        fn serve(&mut self, n: usize, work: u64, share_of: impl Fn(u64) -> Share) -> Vec<u64> {
            let serve = |_| {
                let item = self.fair.pop().expect("something waits");
                self.fair.charge(&share_of(item), 0, work);
                item
            };
            (0..n).map(serve).collect()
        }
    }

    #[test]
    fn one_account_is_served_as_its_requests_come_and_lower_priorities_before() {
        let mut queue = Queue::new();
        let of = |priority| Share { priority, ..Share::default() };
        for priority in [0, 5, 0, -1, 5, -1] {
            queue.push(of(priority));
        }
        assert!(!queue.fair.is_shared());
        assert_eq!(queue.serve(6, 1, |_| Share::default()), [4, 6, 1, 3, 2, 5]);
        assert!(queue.fair.is_empty() && queue.fair.next().is_none());
    }

    #[test]
    fn turns_follow_the_weights() {
        let mut queue = Queue::new();
        let shares = [share(1, 1, Class::Interactive), share(2, 3, Class::Interactive)];
        let of = |item: u64| shares[usize::from(item > 40)];
        (1..=80).for_each(|item| {
            queue.push(of(item));
        });
        let served = queue.serve(40, 10, of);
        assert_eq!(served.iter().filter(|item| **item > 40).count(), 30, "three of four");
    }

    #[test]
    fn an_account_that_was_away_has_saved_nothing_and_one_that_got_much_still_owes_it() {
        let mut queue = Queue::new();
        let (one, two) = (share(1, 1, Class::Interactive), share(2, 1, Class::Interactive));
        (0..20).for_each(|_| {
            queue.push(one);
        });
        assert_eq!(queue.serve(10, 100, |_| one).len(), 10);
        let first = queue.push(two);
        (1..20).for_each(|_| {
            queue.push(two);
        });
        let of = |item: u64| if item < first { one } else { two };
        let served = queue.serve(10, 100, of);
        assert_eq!(served.iter().filter(|item| **item >= first).count(), 5, "turn by turn: {served:?}");
        // The second account leaves, gets nothing for a while, and comes back.
        let left = queue.fair.remove_if(|item| *item >= first);
        assert_eq!((left.len(), queue.fair.len()), (15, 5));
        queue.fair.charge(&two, 0, 1_000);
        queue.push(two);
        assert!(queue.serve(5, 100, |_| one).iter().all(|item| *item < first), "it is ahead by 1,000");
    }

    #[test]
    fn batch_keeps_its_part_and_interactive_has_the_rest() {
        let mut queue = Queue::new();
        let shares = [share(1, 1, Class::Batch), share(2, 1, Class::Interactive)];
        let of = |item: u64| shares[usize::from(item > 200)];
        (1..=400).for_each(|item| {
            queue.push(of(item));
        });
        assert_eq!(queue.fair.class_in_turn(), Some(Class::Interactive));
        let served = queue.serve(200, 10, of);
        let batch = served.iter().filter(|item| **item <= 200).count();
        assert!(batch.abs_diff(200 * BATCH_SHARE_PERCENT as usize / 100) <= 1, "{batch}");
    }

    #[test]
    fn interactive_takes_slots_while_batch_has_its_part() {
        let (batch, interactive) = (share(1, 1, Class::Batch), share(2, 1, Class::Interactive));
        let mut queue = Queue::new();
        queue.push(batch);
        queue.serve(1, 100, |_| batch);
        assert!(!queue.fair.may_displace(), "nothing interactive waits");
        // Of the 100 units, 40 were for prompt tokens that aren't decoded yet.
        queue.fair.charged_unread([0, 40]);
        (0..20).for_each(|_| {
            queue.push(interactive);
        });
        assert!(queue.fair.may_displace());
        queue.fair.charge(&batch, 100, 60);
        assert!(queue.fair.may_displace(), "what is given back leaves batch what it has really got");
        let mut displaced = 0;
        while queue.fair.may_displace() {
            queue.serve(1, 100, |_| interactive);
            displaced += 1;
        }
        assert_eq!(displaced, 1, "from then on interactive has got more");
        queue.fair.charge(&batch, 60, 160);
        assert!(queue.fair.may_displace());
        queue.fair.put_back(0);
        assert!(!queue.fair.may_displace(), "what was set back for want of room goes first");
    }

    #[test]
    fn a_ready_beginning_goes_first_within_the_credit() {
        let (one, two) = (share(1, 1, Class::Interactive), share(2, 1, Class::Interactive));
        let mut queue = Queue::new();
        (0..20).for_each(|_| _ = queue.push(one));
        (0..20).for_each(|_| _ = queue.push(two));
        let is_of_two = |item: &u64| *item > 20;
        let mut went = Vec::new();
        for _ in 0..20 {
            let turn = queue.fair.turn_by(is_of_two).expect("something waits");
            assert!(queue.fair.get(turn).is_some());
            let item = queue.fair.take(turn).expect("it waits");
            queue.fair.charge(if is_of_two(&item) { &two } else { &one }, 0, 100);
            went.push(if is_of_two(&item) { 2 } else { 1 });
        }
        assert_eq!(went[..6], [2, 2, 2, 1, 2, 1], "ahead by 256 at most: {went:?}");
        assert_eq!(went.iter().filter(|account| **account == 1).count(), 9, "then turn by turn");
        queue.fair.put_back(0);
        let turn = queue.fair.turn_by(is_of_two).expect("something waits");
        assert_eq!(queue.fair.take(turn), Some(0), "what was set back goes before all");
    }

    #[test]
    fn what_was_set_back_goes_first() {
        let mut queue = Queue::new();
        queue.push(Share::default());
        queue.fair.put_back(8);
        queue.fair.put_back(7);
        assert_eq!(queue.fair.returned().copied().collect::<Vec<_>>(), [7, 8]);
        assert_eq!(queue.serve(3, 1, |_| Share::default()), [7, 8, 1]);
    }

    #[test]
    fn only_so_many_accounts_are_remembered() {
        let mut queue = Queue::new();
        for account in 0..3 * ACCOUNTS_REMEMBERED_MAX as u64 {
            let one = share(account, 1, Class::Interactive);
            queue.push(one);
            queue.serve(1, 1, |_| one);
        }
        assert_eq!(queue.fair.accounts.len(), ACCOUNTS_REMEMBERED_MAX);
    }

    #[test]
    fn an_account_whose_request_waits_is_not_forgotten() {
        let mut queue = Queue::new();
        let of = |account: u64| share(account, 1, Class::Interactive);
        let waits = ACCOUNTS_REMEMBERED_MAX as u64 + 9;
        (1..=waits).for_each(|account| _ = queue.push(of(account)));
        assert_eq!(queue.serve(waits as usize, 1, of).len(), waits as usize);
        assert!(queue.fair.is_empty());
    }

    #[test]
    fn small_charges_add_up() {
        let at_once = moved(0, 0, 1_000, 7);
        assert_eq!((0..1_000).fold(0, |counter, work| moved(counter, work, work + 1, 7)), at_once);
        assert_eq!(moved(at_once, 1_000, 0, 7), 0, "and are given back whole");
    }
}
