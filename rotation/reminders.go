package rotation

import "time"

// Channel is where people are notified, as a policy names it. Only the worker's own configuration knows its address.
type Channel struct {
	Name string `json:"name"`
	// Hours are when notifications are delivered; all other time is quiet. The zero Window is always.
	Hours Window `json:"hours,omitzero"`
}

// maxReminder is what the interval between reminders grows to.
const maxReminder = 48 * time.Hour

// Channels returns all channels of the policy: those that are notified first, then those that it escalates to.
func (p Policy) Channels() []Channel {
	return append(append([]Channel(nil), p.Notify...), p.Escalate...)
}

// RemindAfter returns the first interval between reminders: a seventh of the patience if the policy does not say.
func (p Policy) RemindAfter() time.Duration {
	if p.Remind > 0 {
		return time.Duration(p.Remind)
	}
	return max(time.Duration(p.Patience)/7, time.Minute)
}

// EscalatesAfter returns how long a wait lasts before it escalates: half of the patience if the policy does not say.
func (p Policy) EscalatesAfter() time.Duration {
	if p.EscalateAfter > 0 {
		return time.Duration(p.EscalateAfter)
	}
	return time.Duration(p.Patience) / 2
}

// ReminderSchedule says when the channels of one wait for a person are notified.
type ReminderSchedule struct {
	Began    time.Time `json:"began,omitzero"`
	Deadline time.Time `json:"deadline,omitzero"`
	// Extended is by how much people extended the policy's deadline.
	Extended time.Duration `json:"extended,omitempty"`
	// Remind is the first interval between reminders, EscalateAfter how long after Began it escalates.
	Remind        time.Duration `json:"remind,omitempty"`
	EscalateAfter time.Duration `json:"escalateAfter,omitempty"`
	// NoEscalation: the policy names no channel to escalate to.
	NoEscalation bool `json:"noEscalation,omitempty"`
}

// ReminderState is how far one channel is in the present wait.
type ReminderState struct {
	Channel
	// Escalation: it is notified only when the wait escalates.
	Escalation bool `json:"escalation,omitempty"`
	// Count is how many notifications were sent, Since when the last one was. Extensions move Since.
	Count int       `json:"count,omitempty"`
	Since time.Time `json:"since,omitzero"`
	// Overdue: it was notified that the deadline has passed.
	Overdue bool `json:"overdue,omitempty"`
}

// Extend moves the deadline of the wait, and with it the escalation. It returns by how much the Since of every channel moves,
// so that reminders wait as long.
func (w *ReminderSchedule) Extend(until, now time.Time) time.Duration {
	by := until.Sub(latest(w.Deadline, now))
	w.Extended += until.Sub(w.Deadline)
	w.Deadline = until
	return by
}

// Extend is for a channel of a wait whose deadline was moved.
func (c *ReminderState) Extend(by time.Duration) {
	if c.Count > 0 {
		c.Since = c.Since.Add(by)
	}
	c.Overdue = false
}

// Next returns when a channel is notified next, not before now, and of what.
//
// The first channels are notified at once, with reminders at intervals that double up to two days; those of the escalation when
// the wait has lasted EscalateAfter, and then together with the first ones (Following); all of them when the deadline has
// passed. Outside its hours a channel holds its notifications and delivers them as one when its hours begin. One case passes
// quiet time: the deadline would come first, the channel is the last resort (one of the escalation, or a first one where there
// is no escalation), and nothing was sent there in this wait; it is notified when the escalation is due.
//
// opens returns when a channel's hours allow a delivery, from a moment on; nil means always.
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

// Following returns the state of a channel that is reminded together with another one, lead. Where that would be within half of
// the first interval after its last notification, it is left out once.
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

// After returns the first moment from t on that is not quiet. Invalid hours are treated as always open.
func (c Channel) After(t time.Time) time.Time {
	if open, ok := c.Hours.NextOpen(t); ok {
		return open
	}
	return t
}

// interval returns how long after the n-th notification the next one follows.
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
