package rotation

import "time"

// Channel is where people are told, as a policy names it. Where it leads is known to the worker's own configuration
// alone.
type Channel struct {
	Name string `json:"name"`
	// Hours are when people want to be told there; all other time is quiet. The zero Window is always.
	Hours Window `json:"hours,omitzero"`
}

// maxReminder is what the interval between reminders grows to.
const maxReminder = 48 * time.Hour

// Channels are all channels of the policy, those that are told first before those that it escalates to.
func (p Policy) Channels() []Channel {
	return append(append([]Channel(nil), p.Notify...), p.Escalate...)
}

// RemindAfter is the first interval between reminders; a seventh of the patience if the policy does not say.
func (p Policy) RemindAfter() time.Duration {
	if p.Remind > 0 {
		return time.Duration(p.Remind)
	}
	return max(time.Duration(p.Patience)/7, time.Minute)
}

// EscalatesAfter is how long after the beginning of a wait the second channels are told; half of the patience if the
// policy does not say.
func (p Policy) EscalatesAfter() time.Duration {
	if p.EscalateAfter > 0 {
		return time.Duration(p.EscalateAfter)
	}
	return time.Duration(p.Patience) / 2
}

// ReminderSchedule is a wait for a person.
type ReminderSchedule struct {
	Began    time.Time `json:"began,omitzero"`
	Deadline time.Time `json:"deadline,omitzero"`
	// Extended is how much longer than the policy says people asked it to last.
	Extended time.Duration `json:"extended,omitempty"`
	// Remind is the first interval between reminders, EscalateAfter how long after Began the second channels are told.
	Remind        time.Duration `json:"remind,omitempty"`
	EscalateAfter time.Duration `json:"escalateAfter,omitempty"`
	// NoEscalation: no channel is escalated to.
	NoEscalation bool `json:"noEscalation,omitempty"`
}

// ReminderState is how far the telling of one channel is in the present wait.
type ReminderState struct {
	Channel
	// Second: it is told when the first channels did not help.
	Escalation bool `json:"escalation,omitempty"`
	// Count is how many words were sent, Since when the last one was. Extensions move Since.
	Count int       `json:"count,omitempty"`
	Since time.Time `json:"since,omitzero"`
	// Overdue: it was told that the deadline has passed.
	Overdue bool `json:"overdue,omitempty"`
}

// Extend moves the deadline of the wait, and with it the escalation; it returns by how much the contacts' Since moves,
// so that reminders wait as long.
func (w *ReminderSchedule) Extend(until, now time.Time) time.Duration {
	by := until.Sub(latest(w.Deadline, now))
	w.Extended += until.Sub(w.Deadline)
	w.Deadline = until
	return by
}

// Extend is for a contact of a wait whose deadline was moved.
func (c *ReminderState) Extend(by time.Duration) {
	if c.Count > 0 {
		c.Since = c.Since.Add(by)
	}
	c.Overdue = false
}

// Next is when a channel is told next, not before now, and what about.
//
// The first channels are told at once and reminded at intervals that double up to two days; the second ones when the
// wait has lasted EscalateAfter, and then with the first ones (Following); all of them when the deadline has passed. What falls into quiet time
// waits until the channel's hours begin, and is one word then, however much came together. One case passes quiet time:
// the deadline would come first and the channel is the last one to be told (a second one, or a first one where there is
// no second), and has heard nothing of this wait; it is told when the escalation is due.
//
// opens is when a channel's hours let it be told, from a moment on; nil knows no quiet time.
func (w ReminderSchedule) Next(c ReminderState, now time.Time, opens func(Channel, time.Time) time.Time) (time.Time, Event) {
	escalation := w.Began.Add(w.EscalateAfter + w.Extended)
	wanted := w.Began
	switch {
	case c.Count > 0:
		wanted = c.Since.Add(w.interval(c.Count))
	case c.Escalation:
		wanted = escalation
	}
	if !c.Overdue && wanted.After(w.Deadline) {
		wanted = w.Deadline
	}
	at := latest(wanted, now)
	if opens != nil {
		at = opens(c.Channel, at)
	}
	if last := c.Count == 0 && (c.Escalation || w.NoEscalation); last && now.Before(w.Deadline) && !at.Before(w.Deadline) && wanted.Before(w.Deadline) {
		at = latest(escalation, now)
	}
	switch {
	case !at.Before(w.Deadline):
		return at, EventOverdue
	case c.Count > 0:
		return at, EventReminder
	case c.Escalation:
		return at, EventEscalation
	}
	return at, EventNeeded
}

// Following is a contact that is reminded when the one before it is; when that would be within half of the first interval
// after it was told last, it is passed over once.
func (w ReminderSchedule) Following(c, lead ReminderState) ReminderState {
	if w.Remind <= 0 {
		return c
	}
	soon := c.Since.Add(w.Remind / 2)
	for c.Count, c.Since = lead.Count, lead.Since; c.Since.Add(w.interval(c.Count)).Before(soon); c.Count++ {
		c.Since = c.Since.Add(w.interval(c.Count))
	}
	return c
}

// After is the first moment from t on that is not quiet. Hours that nobody can make sense of keep nobody from being
// told.
func (c Channel) After(t time.Time) time.Time {
	if open, ok := c.Hours.NextOpen(t); ok {
		return open
	}
	return t
}

// interval is how long after the n-th word the next one follows.
func (w ReminderSchedule) interval(n int) time.Duration {
	d := w.Remind
	for ; n > 1 && d < maxReminder; n-- {
		d *= 2
	}
	return min(d, max(w.Remind, maxReminder))
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
