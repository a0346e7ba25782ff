package workflows

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
)

// channelState is one channel of the policy: how far its notifications are, and what came of them.
type channelState struct {
	rotation.ReminderState
	Delivery rotation.Delivery `json:"delivery"`
	// Used: something was sent there, so the end is sent there too.
	Used bool `json:"used,omitempty"`
	// Pending is what is being delivered. A run that continues this one sends it again, with the same id.
	Pending *rotation.Notification `json:"pending,omitempty"`
}

// channels are those of a policy, with what an earlier rotation in the same workflow has sent there.
func channels(p rotation.Policy, before []channelState) []channelState {
	var all []channelState
	for i, c := range p.Channels() {
		s := channelState{ReminderState: rotation.ReminderState{Channel: c, Escalation: i >= len(p.Notify)}, Delivery: rotation.Delivery{Channel: c.Name}}
		for _, b := range before {
			if b.Name == c.Name {
				s.Delivery, s.Used = b.Delivery, b.Used
			}
		}
		all = append(all, s)
	}
	return all
}

// notificationWait is the present wait, as far as notifications go.
func (r *runner) notificationWait() rotation.ReminderSchedule {
	p := r.in.Key.Policy
	return rotation.ReminderSchedule{
		Began: r.Wait.Began, Deadline: r.Wait.Deadline, Extended: r.Wait.Extended, Remind: p.RemindAfter(), EscalateAfter: p.EscalatesAfter(), NoEscalation: len(p.Escalate) == 0,
	}
}

// notifyDue notifies the channels that are to be notified now. It does not wait for them: a channel that is down holds up
// no rotation.
func (r *runner) notifyDue() {
	if r.deadlineEnds() {
		return // it rolls back, and that is notified
	}
	var due []int
	var events []rotation.Event
	for i, l := range r.Carry.Channels {
		if at, event := r.nextFor(l.ReminderState); !at.After(r.now()) {
			due, events = append(due, i), append(events, event)
		}
	}
	if len(due) == 0 {
		return
	}
	for n, i := range due {
		l := &r.Carry.Channels[i]
		l.Count, l.Since, l.Overdue = l.Count+1, r.now(), events[n] == rotation.EventOverdue
	}
	r.Progress.Notifications++
	if slices.ContainsFunc(events, func(a rotation.Event) bool { return a != rotation.EventNeeded }) {
		r.Wait.Reminders++
	}
	page := r.page()
	for n, i := range due {
		notification := r.notification(events[n])
		notification.Message, notification.Command = page.RequiredAction()
		notification.Deadline, notification.Otherwise = r.Wait.Deadline, page.Otherwise()
		for o, other := range r.Carry.Channels {
			if o != i && other.Count > 0 && other.Delivery.Problem == "" {
				notification.Notified = append(notification.Notified, other.Name)
			}
		}
		r.Carry.Channels[i].Pending = &notification
		r.deliver(i)
	}
	r.refreshDetails()
}

// openingTimes returns when a channel may be notified; nil in an emergency, which knows no quiet hours.
func (r *runner) openingTimes() func(rotation.Channel, time.Time) time.Time {
	if r.emergency() {
		return nil
	}
	return func(c rotation.Channel, t time.Time) time.Time {
		// Of a moment between the last question and its answer the answer is known.
		if a := r.hours[c.Name]; !a.asked.IsZero() && !t.Before(a.asked) && !t.After(a.open) {
			return a.open
		}
		a := openHours{t, openingTime(r.ctx, c, t)}
		r.hours[c.Name] = a
		return a.open
	}
}

// openHours is when a channel may be notified, asked of a moment.
type openHours struct{ asked, open time.Time }

// openingTime is when a channel may be notified, from t on. What the clocks of a zone show depends on the machine's time zone data,
// and another worker may replay this with others: the first one's answer stays.
func openingTime(ctx workflow.Context, c rotation.Channel, t time.Time) time.Time {
	if c.Hours.Zone == "" || c.Hours.Zone == "UTC" {
		return c.After(t)
	}
	open := t
	if workflow.SideEffect(ctx, func(workflow.Context) any { return c.After(t) }).Get(&open) != nil {
		return t
	}
	return open
}

// nextFor is when a channel is notified next, and of what. An escalation channel that knows is reminded when the others
// are: each moment costs events in the history. Not at once, though.
func (r *runner) nextFor(c rotation.ReminderState) (time.Time, rotation.Event) {
	w := r.notificationWait()
	if c.Escalation && c.Count > 0 {
		if i := slices.IndexFunc(r.Carry.Channels, func(l channelState) bool { return !l.Escalation && l.Count > 0 }); i >= 0 {
			c = w.Following(c, r.Carry.Channels[i].ReminderState)
		}
	}
	return w.Next(c, r.now(), r.openingTimes())
}

// nextNotification is when a channel is to be notified next; zero if there is none.
func (r *runner) nextNotification() time.Time {
	var first time.Time
	for _, l := range r.Carry.Channels {
		if at, _ := r.nextFor(l.ReminderState); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// resumeNotifications sends what a run before this one was about to send when it was continued.
func (r *runner) resumeNotifications() {
	for i, l := range r.Carry.Channels {
		if l.Pending != nil {
			r.deliver(i)
		}
	}
}

// stopNotifying stops what is being sent: it is over. What is on its way may still arrive.
func (r *runner) stopNotifying() {
	for i := range r.Carry.Channels {
		l := &r.Carry.Channels[i]
		if l.Pending != nil {
			l.Pending = nil
			if stop := r.stop[l.Name]; stop != nil {
				stop()
			}
		}
		l.ReminderState = rotation.ReminderState{Channel: l.Channel, Escalation: l.Escalation}
	}
}

// deliver sends what is pending for a channel, in place of what may still be under way there.
func (r *runner) deliver(i int) {
	l := &r.Carry.Channels[i]
	if stop := r.stop[l.Name]; stop != nil {
		stop()
	}
	notification := *l.Pending
	ctx, stop := workflow.WithCancel(notifyContext(r.ctx, r.in.Reason, l.Name, notification.Event))
	l.Used, r.stop[l.Name] = true, stop
	sent := workflow.ExecuteActivity(ctx, activities.NotifyName, activities.NotifyInput{
		Target: r.target(), Channel: l.Name, Notification: notification, Workflow: workflow.GetInfo(r.ctx).WorkflowExecution.ID,
	})
	workflow.Go(r.ctx, func(ctx workflow.Context) {
		err := sent.Get(ctx, nil)
		if l := &r.Carry.Channels[i]; l.Pending != nil && l.Pending.ID == notification.ID {
			l.Pending = nil
			l.Delivery = deliveryResult(l.Delivery, notification.Event, workflow.Now(ctx), err)
			r.refreshDetails()
		}
	})
}

// deliveryResult is what is known of a channel after an attempt to notify it.
func deliveryResult(before rotation.Delivery, event rotation.Event, now time.Time, err error) rotation.Delivery {
	switch {
	case err == nil:
		return rotation.Delivery{Channel: before.Channel, At: now, Event: event}
	case !temporal.IsCanceledError(err):
		before.Problem = classify(err).text
	}
	return before
}

// notification is one about this rotation, as it stands.
func (r *runner) notification(event rotation.Event) rotation.Notification {
	k := r.in.Key
	n := rotation.Notification{
		ID: fmt.Sprintf("%s-%s-%d", r.id, r.phase(), r.Progress.Notifications), Event: event, At: r.now(),
		Key: k.Name, Provider: k.Provider, Tier: k.Tier, Rotation: r.id, Reason: r.in.Reason, Phase: r.phase(),
	}
	if r.Carry.Note != nil {
		n.Note = r.Carry.Note.By + ": " + r.Carry.Note.Why
	}
	return n
}

// delivered are the deliveries to channels that were notified, or should have been.
func (r *runner) delivered() []rotation.Delivery {
	var all []rotation.Delivery
	for _, l := range r.Carry.Channels {
		if !l.Delivery.At.IsZero() || l.Delivery.Problem != "" {
			all = append(all, l.Delivery)
		}
	}
	return all
}

// notifyEnd notifies of the rotation's end every channel that was notified of the rotation, and of a roll-back always. It
// only starts Notify, which outlives the rotation: neither quiet hours nor a channel that is down keep the key's next rotation waiting.
func (r *runner) notifyEnd(res rotation.Result) {
	r.stopNotifying()
	var to []rotation.Channel
	for _, l := range r.Carry.Channels {
		if l.Used || res.Phase == rotation.RolledBack && !l.Escalation {
			to = append(to, l.Channel)
		}
	}
	if len(to) == 0 {
		return
	}
	event := rotation.EventCompleted
	if res.Phase == rotation.RolledBack {
		event = rotation.EventRolledBack
	}
	r.Progress.Notifications++
	notification := r.notification(event)
	notification.Message = res.Outcome
	if len(res.FollowUps) > 0 {
		notification.Message = fmt.Sprintf("%d follow-up(s) to do. %s", len(res.FollowUps), res.Outcome)
		notification.Command = "rekey status " + r.in.Key.Name
	}
	startNotify(r.ctx, NotifyInput{
		Target: r.target(), Workflow: workflow.GetInfo(r.ctx).WorkflowExecution.ID, Notification: notification, Channels: to, Urgent: r.emergency(),
	})
}
