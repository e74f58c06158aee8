//! Folding a transaction's own GTID into a state, in the notation of its server. For readers of streams: a stream
//! header, `progress` and `end` tell the whole state, a transaction only its own.
//!
//! MariaDB: `domain-server-sequence`, the state has the last of each domain. MySQL: `uuid[:tag]:number`, the state is a
//! set of intervals.

/// Adds `gtid` to `state`. What is neither server's notation changes nothing.
pub fn fold(state: &mut String, gtid: &str) {
    if let Some((source, number)) = gtid.rsplit_once(':') {
        if let Ok(number) = number.parse::<u64>() {
            fold_mysql(state, source, number);
        }
    } else if let Some((domain, _)) = gtid.split_once('-') {
        let entry = entries(state).find(|(_, entry)| entry.split_once('-').is_some_and(|(other, _)| other == domain));
        match entry.map(|(at, entry)| (at, at + entry.len())) {
            Some((from, to)) => state.replace_range(from..to, gtid),
            None => append(state, gtid),
        }
    }
}

/// The entries of a state with their places.
fn entries(state: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    state.split(',').map(move |entry| {
        let here = at;
        at += entry.len() + 1;
        (here, entry)
    })
}

fn append(state: &mut String, entry: &str) {
    if !state.is_empty() {
        state.push(',');
    }
    state.push_str(entry);
}

fn fold_mysql(state: &mut String, source: &str, number: u64) {
    let found = entries(state).find_map(|(at, entry)| {
        let intervals = entry.strip_prefix(source)?.strip_prefix(':')?;
        // The entry of a tag begins with its server's UUID too.
        intervals.starts_with(|c: char| c.is_ascii_digit()).then(|| (at + entry.len() - intervals.len(), intervals))
    });
    let Some((at, intervals)) = found else {
        return append(state, &format!("{source}:{number}"));
    };
    let mut place = at;
    for interval in intervals.split(':') {
        let (first, last) = interval.split_once('-').unwrap_or((interval, interval));
        let (Ok(first), Ok(last)) = (first.parse::<u64>(), last.parse::<u64>()) else { return };
        if (first..=last).contains(&number) {
            return;
        }
        let end = place + interval.len();
        if last.checked_add(1) == Some(number) {
            return state.replace_range(place..end, &format!("{first}-{number}"));
        }
        place = end + 1;
    }
    // Intervals need not be in order, nor joined, to be read back.
    let end = at + intervals.len();
    state.insert_str(end, &format!(":{number}"));
}

/// Whether `state` holds the transaction `gtid`.
pub fn contains(state: &str, gtid: &str) -> bool {
    !gtid.is_empty() && first_missing(state, gtid).is_none()
}

/// The first of `gtids` (a GTID, or a state) that `state` does not hold.
pub fn first_missing(state: &str, gtids: &str) -> Option<String> {
    let held: Vec<Entry<'_>> = parse(state).collect();
    let missing = parse(gtids).find(|entry| match entry {
        Entry::MariaDb { domain, sequence } => !held
            .iter()
            .any(|other| matches!(other, Entry::MariaDb { domain: d, sequence: s } if d == domain && s >= sequence)),
        Entry::MySql { uuid, tag, first, last } => {
            // Intervals may touch: what is held of the range is taken off its front until nothing moves.
            let mut next = *first;
            while next <= *last {
                let covering = held.iter().find_map(|other| match other {
                    Entry::MySql { uuid: u, tag: t, first, last }
                        if u.eq_ignore_ascii_case(uuid)
                            && t.eq_ignore_ascii_case(tag)
                            && (*first..=*last).contains(&next) =>
                    {
                        Some(*last)
                    }
                    _ => None,
                });
                match covering.and_then(|last| last.checked_add(1)) {
                    Some(after) => next = after,
                    None => return covering.is_none(),
                }
            }
            false
        }
    })?;
    Some(match missing {
        Entry::MariaDb { domain, sequence } => format!("sequence {sequence} of domain {domain}"),
        Entry::MySql { uuid, tag: "", first, last } => format!("{uuid}:{first}-{last}"),
        Entry::MySql { uuid, tag, first, last } => format!("{uuid}:{tag}:{first}-{last}"),
    })
}

#[derive(Clone, Copy, Debug)]
enum Entry<'a> {
    MariaDb { domain: u64, sequence: u64 },
    MySql { uuid: &'a str, tag: &'a str, first: u64, last: u64 },
}

/// The entries of a state; what is in neither server's notation is left out. MySQL writes `uuid:1-5:7:tag:1`.
fn parse(state: &str) -> impl Iterator<Item = Entry<'_>> {
    state.split(',').map(str::trim).flat_map(|text| {
        let mut out = Vec::new();
        match text.split_once(':') {
            Some((uuid, rest)) => {
                let mut tag = "";
                for part in rest.split(':') {
                    let (first, last) = part.split_once('-').unwrap_or((part, part));
                    match (first.parse(), last.parse()) {
                        (Ok(first), Ok(last)) => out.push(Entry::MySql { uuid, tag, first, last }),
                        _ => tag = part,
                    }
                }
            }
            None => {
                let mut parts = text.split('-').map(str::parse);
                if let (Some(Ok(domain)), Some(Ok(_)), Some(Ok(sequence)), None) =
                    (parts.next(), parts.next(), parts.next(), parts.next())
                {
                    out.push(Entry::MariaDb { domain, sequence });
                }
            }
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(state: &str, gtids: &[&str]) -> String {
        let mut state = state.to_owned();
        for gtid in gtids {
            fold(&mut state, gtid);
        }
        state
    }

    #[test]
    fn a_mariadb_state_keeps_the_last_of_each_domain() {
        assert_eq!(folded("", &["0-1-5", "0-1-6", "2-7-1", "0-3-7"]), "0-3-7,2-7-1");
        assert_eq!(folded("10-1-5", &["1-1-5"]), "10-1-5,1-1-5");
    }

    #[test]
    fn a_mysql_state_is_a_set_of_intervals() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let gtid = |rest: &str| format!("{uuid}:{rest}");
        assert_eq!(folded("", &[&gtid("1"), &gtid("2"), &gtid("3"), &gtid("2")]), gtid("1-3"));
        assert_eq!(folded(&gtid("1-3:7-9"), &[&gtid("10"), &gtid("12"), &gtid("8")]), gtid("1-3:7-10:12"));
        assert_eq!(folded(&gtid("tag:1-3"), &[&gtid("5"), &gtid("tag:4")]), format!("{uuid}:tag:1-4,{uuid}:5"));
    }

    #[test]
    fn what_is_no_gtid_changes_nothing() {
        for wrong in ["", "x", "a:b", ":"] {
            assert_eq!(folded("0-1-5", &[wrong]), "0-1-5", "{wrong:?}");
        }
    }

    #[test]
    fn what_a_state_holds_is_judged_by_domain_and_by_interval() {
        assert!(contains("0-1-5,2-7-1", "0-3-5") && !contains("0-1-5", "0-1-6") && !contains("0-1-5", "1-1-1"));
        assert!(!contains("0-1-5", "") && first_missing("0-1-5", "").is_none());
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let state = format!("{uuid}:1-3:5:tag:7, 00000000-71ca-11e1-9e33-c80aa9429562:9");
        for (gtids, held) in [("2", true), ("4", false), ("1-3", true), ("3-5", false), ("tag:7", true), ("7", false)] {
            assert_eq!(contains(&state, &format!("{}:{gtids}", uuid.to_uppercase())), held, "{gtids}");
        }
        assert!(contains(&format!("{uuid}:4-9:1-3"), &format!("{uuid}:1-9")));
        assert_eq!(first_missing("0-1-5", "0-1-4,1-1-2").as_deref(), Some("sequence 2 of domain 1"));
    }
}
