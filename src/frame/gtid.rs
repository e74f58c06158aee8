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
}
