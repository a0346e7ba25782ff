package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
)

// Wait is a wait for a person.
type Wait struct {
	// Began is when it began, Deadline when it ends, Extended how much longer it lasts because people asked for it.
	Began    time.Time     `json:"began,omitzero"`
	Deadline time.Time     `json:"deadline,omitzero"`
	Extended time.Duration `json:"extended,omitempty"`
	// Reminders counts how often people were reminded.
	Reminders int `json:"reminders,omitempty"`
}

// Poll is what a step waits for that takes a moment: it is done again at At.
type Poll struct {
	At    time.Time `json:"at,omitzero"`
	Since time.Time `json:"since,omitzero"`
	Count int       `json:"count,omitempty"`
	// Why and Summary say what is waited for, in the details and beside the timer.
	Why     string `json:"why,omitempty"`
	Summary string `json:"summary,omitempty"`
	// ExpectedUntil is until when nobody has to worry.
	ExpectedUntil time.Time `json:"expectedUntil,omitzero"`
	// WaitingOut: it is waited until an abandoned request can no longer take effect.
	WaitingOut bool `json:"waitingOut,omitempty"`
}

// Blocked is why a step makes no progress.
type Blocked struct {
	Why   string    `json:"why,omitempty"`
	Since time.Time `json:"since,omitzero"`
}

// waiting is one wait. It ends when the moment comes, when done reports true, when a message changes the plan, when the
// rotation should go on in a new run, or with a deadline at which the rotation rolls back. Without a moment it ends only by
// the others.
type waiting struct {
	summary string
	until   time.Time
	// personFrom is from when on a person is waited for; zero if nobody is.
	personFrom time.Time
	done       func() bool
}

// wait is the only place where a rotation waits for something else than one activity. Where a person is needed it sets
// the deadline and notifies, and does not come back for that.
func (r *runner) wait(w waiting) {
	over := func() bool { return r.changed() || r.mustLeave() || w.done != nil && w.done() }
	for !over() {
		r.checkIdle()
		now := r.now()
		if !w.until.IsZero() && !w.until.After(now) || r.deadlineEnds() {
			return
		}
		moment := w.until
		switch {
		case w.personFrom.IsZero():
		case w.personFrom.After(now):
			moment = earliest(moment, w.personFrom)
		default:
			r.beginWait()
			moment = earliest(moment, r.personMoment())
		}
		if r.rollsBackAtDeadline() {
			moment = earliest(moment, r.Wait.Deadline)
		}
		r.publishPhase()
		if moment.IsZero() {
			_ = workflow.Await(r.ctx, over)
		} else {
			r.awaitUntil(moment, w.summary, over)
		}
		// A message that was sent before the moment counts, also when no worker was there to hear it in time.
		r.takeMessages()
		r.refreshDetails()
	}
}

// awaitUntil is workflow.AwaitWithOptions, which leaves its timer behind when the condition comes first: after a year of
// messages a rotation would have as many timers, and each one wakes it up when it fires.
func (r *runner) awaitUntil(moment time.Time, summary string, over func() bool) {
	ctx, cancel := workflow.WithCancel(r.ctx)
	defer cancel()
	timer := workflow.NewTimerWithOptions(ctx, moment.Sub(r.now()), workflow.TimerOptions{Summary: summary})
	_ = workflow.Await(r.ctx, func() bool { return timer.IsReady() || over() })
}

// personMoment is when something is to be done about the person who is waited for: the deadline, a reminder.
func (r *runner) personMoment() time.Time {
	moment := r.nextNotification()
	if r.now().Before(r.Wait.Deadline) {
		moment = earliest(moment, r.Wait.Deadline)
	}
	return moment
}

// waitForPerson waits until the deadline at most; behind one at which the rotation does not roll back, until somebody acts.
func (r *runner) waitForPerson() {
	r.beginWait()
	if r.expired() && r.rollsBackAtDeadline() {
		return // a key that came at the last moment could not be used
	}
	w := waiting{summary: "waiting for a person: what to do is under User Metadata", personFrom: r.now()}
	if !r.expired() {
		w.until = r.Wait.Deadline
	}
	if r.fourEyes() && r.Approvals.Signing != nil {
		// Whoever was made an operator meanwhile can sign from then on.
		w.until = earliest(w.until, r.now().Add(recountAfter))
	}
	r.wait(w)
}

// recountAfter is how long the list of operators is believed.
const recountAfter = 24 * time.Hour

// beginWait sets the deadline for whoever has to act, if there is none yet, and notifies who is to be notified now.
func (r *runner) beginWait() {
	if r.Wait.Deadline.IsZero() {
		r.Wait.Began = r.now()
		r.Wait.Deadline = r.Wait.Began.Add(time.Duration(r.in.Key.Policy.Patience))
		r.upsert(DeadlineAttribute.ValueSet(r.Wait.Deadline))
		r.refreshDetails()
	}
	r.notifyDue()
}

// expired reports whether the deadline has come.
func (r *runner) expired() bool {
	return !r.Wait.Deadline.IsZero() && !r.now().Before(r.Wait.Deadline)
}

// rollsBackAtDeadline reports whether the present wait ends in a roll-back when nobody acts; any other is overdue from
// then on.
func (r *runner) rollsBackAtDeadline() bool {
	if !r.At.Commitment.CanRollBack() {
		return false
	}
	switch r.At.Step {
	case rotation.StepAwaitKey, rotation.StepAdopt:
		return true
	case rotation.StepApproval:
		q := r.question()
		if q.Answered {
			return false
		}
		// UnknownNever keeps the old key for ever rather than decide by itself. A revoke that does not succeed does not justify to
		// take the new key away.
		return q.Kind != notRevoked && (q.Next != rotation.StepGuard || r.in.Key.Policy.UnknownUse != rotation.UnknownNever)
	}
	return false
}

// deadlineEnds reports whether the deadline has come and ends the present wait in a roll-back.
func (r *runner) deadlineEnds() bool { return r.expired() && r.rollsBackAtDeadline() }

// nobodyActed asks for the roll-back at a deadline.
func (r *runner) nobodyActed() {
	deadline := r.Wait.Deadline.Format(time.RFC3339)
	switch r.At.Step {
	case rotation.StepAwaitKey:
		r.requestRollback("Nobody supplied a new key by " + deadline + ".")
	case rotation.StepAdopt:
		r.requestRollback("The supplied key could not be checked by " + deadline + ": " + r.Poll.Why)
	case rotation.StepApproval:
		who := "Nobody"
		if signed := r.Approvals.Signed; len(signed) >= rotation.Eyes {
			r.requestRollback("The signatures could not be verified by " + deadline + ". " + r.Poll.Why)
			return
		} else if len(signed) > 0 {
			who = fmt.Sprintf("Only %d of %d operators (%s)", len(signed), rotation.Eyes, strings.Join(rotation.Signing{Signed: signed}.Names(), ", "))
		}
		r.requestRollback(who + " approved by " + deadline + ": " + r.question().Text)
	}
}

// extendDeadline moves the deadline, and with it what is still to be notified.
func (r *runner) extendDeadline(until time.Time) {
	w := r.notificationWait()
	by := w.Extend(until, r.now())
	r.Wait.Deadline, r.Wait.Extended = w.Deadline, w.Extended
	for i := range r.Carry.Channels {
		r.Carry.Channels[i].Extend(by)
	}
	r.upsert(DeadlineAttribute.ValueSet(r.Wait.Deadline))
}

// newWait forgets the wait before, so that the next one begins with all its patience.
func (r *runner) newWait() {
	r.Wait = Wait{}
	r.stopNotifying()
}

// endWait takes the deadline away, also from the list: what is over is not overdue.
func (r *runner) endWait() {
	if !r.Wait.Deadline.IsZero() {
		r.newWait()
		r.upsert(DeadlineAttribute.ValueUnset())
	}
}

// blockedAfter is how long a step may be blocked before a person is waited for.
func (r *runner) blockedAfter() time.Duration {
	if r.emergency() {
		return time.Minute
	}
	return 5 * time.Minute
}

// block notes that the present step is blocked.
func (r *runner) block(f *failure) {
	if r.Blocked.Since.IsZero() {
		r.Blocked.Since = r.now()
	}
	r.Blocked.Why = f.text
	if d := time.Duration(f.RetryAfter); d > activities.MaxRetryDelay {
		// Too long to be left to Temporal, where no message could end it.
		r.pollAgain(d, poll{why: f.text, summary: "wait as long as requested", expected: r.Poll.ExpectedUntil})
	}
	r.publishPhase()
	r.refreshDetails()
}

// unblock notes that the step is no longer blocked.
func (r *runner) unblock() {
	if r.Blocked.Since.IsZero() {
		return
	}
	r.Blocked = Blocked{}
	if !r.At.Step.Phase().Waiting() {
		r.endWait()
	}
	r.refreshDetails()
}

// poll says what is polled for.
type poll struct {
	why, summary string
	// expected is until when nobody has to worry; zero: a few minutes.
	expected time.Time
}

// pollAgain does the present step again after d.
func (r *runner) pollAgain(d time.Duration, p poll) rotation.State {
	if r.Poll.Since.IsZero() {
		r.Poll.Since = r.now()
	}
	r.Poll.Count++
	r.Poll.At, r.Poll.Why, r.Poll.Summary, r.Poll.ExpectedUntil = r.now().Add(d), p.why, p.summary, p.expected
	return r.stay()
}

// waitForPoll waits until the present step is to be done again.
func (r *runner) waitForPoll() {
	r.wait(waiting{summary: r.Poll.Summary, until: r.Poll.At, personFrom: latest(r.Poll.Since.Add(r.blockedAfter()), r.Poll.ExpectedUntil)})
	if !r.changed() && r.deadlineEnds() {
		r.nobodyActed()
	}
}

// pollInterval is how long to wait before asking the n-th time for something that takes a moment.
func pollInterval(n int) time.Duration { return min(time.Second<<min(n, 10), 30*time.Second) }

// earliest is the first of two moments; a zero one never comes.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
