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
	// Used: something was sent there, so the end is told there too.
	Used bool `json:"used,omitempty"`
	// Pending is what is being told. A run that continues this one tells it again, with the same id.
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
		return // it rolls back, and that is told
	}
	var due []int
	var abouts []rotation.Event
	for i, l := range r.Carry.Channels {
		if at, about := r.nextFor(l.ReminderState); !at.After(r.now()) {
			due, abouts = append(due, i), append(abouts, about)
		}
	}
	if len(due) == 0 {
		return
	}
	for n, i := range due {
		l := &r.Carry.Channels[i]
		l.Count, l.Since, l.Overdue = l.Count+1, r.now(), abouts[n] == rotation.EventOverdue
	}
	r.Progress.Notifications++
	if slices.ContainsFunc(abouts, func(a rotation.Event) bool { return a != rotation.EventNeeded }) {
		r.Wait.Reminders++
	}
	page := r.page()
	for n, i := range due {
		notice := r.notification(abouts[n])
		notice.Message, notice.Command = page.RequiredAction()
		notice.Deadline, notice.Otherwise = r.Wait.Deadline, page.Otherwise()
		for o, other := range r.Carry.Channels {
			if o != i && other.Count > 0 && other.Delivery.Problem == "" {
				notice.Notified = append(notice.Notified, other.Name)
			}
		}
		r.Carry.Channels[i].Pending = &notice
		r.deliver(i)
	}
	r.refreshDetails()
}

// openingTimes tell when a channel may be told; an emergency knows none.
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

// openHours is when a channel may be told, asked of a moment.
type openHours struct{ asked, open time.Time }

// openingTime is when a channel may be told, from t on. What the clocks of a zone show depends on the machine's time zone data,
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

// nextFor is when a channel is told next, and what about. A second channel that knows is reminded when the first ones
// are: each moment has its price in events, and people talk to each other. Not at once, though.
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

// deliver sends what is pending on a line, in the place of what may still be under way there.
func (r *runner) deliver(i int) {
	l := &r.Carry.Channels[i]
	if stop := r.stop[l.Name]; stop != nil {
		stop()
	}
	notice := *l.Pending
	ctx, stop := workflow.WithCancel(notifyContext(r.ctx, r.in.Reason, l.Name, notice.Event))
	l.Used, r.stop[l.Name] = true, stop
	sent := workflow.ExecuteActivity(ctx, activities.NotifyName, activities.NotifyInput{
		Target: r.target(), Channel: l.Name, Notification: notice, Workflow: workflow.GetInfo(r.ctx).WorkflowExecution.ID,
	})
	workflow.Go(r.ctx, func(ctx workflow.Context) {
		err := sent.Get(ctx, nil)
		if l := &r.Carry.Channels[i]; l.Pending != nil && l.Pending.ID == notice.ID {
			l.Pending = nil
			l.Delivery = deliveryResult(l.Delivery, notice.Event, workflow.Now(ctx), err)
			r.refreshDetails()
		}
	})
}

// deliveryResult is what is known of a channel after a try to tell it.
func deliveryResult(before rotation.Delivery, about rotation.Event, now time.Time, err error) rotation.Delivery {
	switch {
	case err == nil:
		return rotation.Delivery{Channel: before.Channel, At: now, Event: about}
	case !temporal.IsCanceledError(err):
		before.Problem = classify(err).text
	}
	return before
}

// notification is one about this rotation, as it stands.
func (r *runner) notification(about rotation.Event) rotation.Notification {
	k := r.in.Key
	n := rotation.Notification{
		ID: fmt.Sprintf("%s-%s-%d", r.id, r.phase(), r.Progress.Notifications), Event: about, At: r.now(),
		Key: k.Name, Provider: k.Provider, Tier: k.Tier, Rotation: r.id, Reason: r.in.Reason, Phase: r.phase(),
	}
	if r.Carry.Note != nil {
		n.Note = r.Carry.Note.By + ": " + r.Carry.Note.Why
	}
	return n
}

// delivered are the channels that were told, or should have been.
func (r *runner) delivered() []rotation.Delivery {
	var all []rotation.Delivery
	for _, l := range r.Carry.Channels {
		if !l.Delivery.At.IsZero() || l.Delivery.Problem != "" {
			all = append(all, l.Delivery)
		}
	}
	return all
}

// notifyEnd tells the end of the rotation to those that were told of it, and a roll-back always. It only starts Tell,
// which outlives the rotation: neither quiet hours nor a channel that is down keep the key's next rotation waiting.
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
	about := rotation.EventCompleted
	if res.Phase == rotation.RolledBack {
		about = rotation.EventRolledBack
	}
	r.Progress.Notifications++
	notice := r.notification(about)
	notice.Message = res.Outcome
	if len(res.FollowUps) > 0 {
		notice.Message = fmt.Sprintf("%d follow-up(s) to do. %s", len(res.FollowUps), res.Outcome)
		notice.Command = "rekey status " + r.in.Key.Name
	}
	startNotify(r.ctx, NotifyInput{
		Target: r.target(), Workflow: workflow.GetInfo(r.ctx).WorkflowExecution.ID, Notification: notice, Channels: to, Urgent: r.emergency(),
	})
}
