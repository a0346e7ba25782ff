package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
)

// wait returns when something may have become possible: there is news of a rotation, or time has made room for the next
// rows, or somebody has cancelled. The look is tried again by the Temporal server until it brings news, so that however
// long a wait costs no event.
func (e *emergencyRun) wait() error {
	if e.pace {
		e.pace = false
		// The first of many news rarely comes alone.
		if err := workflow.NewTimerWithOptions(e.root, time.Second, workflow.TimerOptions{Summary: "until the next look"}).Get(e.root, nil); err != nil {
			return nil // it was cancelled, which the caller sees
		}
	}
	due, waits := e.due()
	now := workflow.Now(e.ctx)
	if waits && !due.After(now) {
		return nil
	}
	ctx, stop := workflow.WithCancel(e.ctx)
	// A look that is cut short changes nothing: nobody waits for it to end.
	defer stop()
	selector := workflow.NewSelector(e.ctx)
	var failed error
	if in := e.statusesInput(); len(in.Names) > 0 {
		for _, name := range in.Names {
			r := e.row(name)
			in.Known = append(in.Known, activities.KnownStatus{Phase: r.Phase, Unreadable: r.Unreadable})
		}
		text := fmt.Sprintf("until there is news of %d rotation(s); who is waited for is under User Metadata", len(in.Names))
		selector.AddFuture(workflow.ExecuteActivity(e.summary(ctx, text), activities.StatusesName, in), func(look workflow.Future) {
			var news []activities.RotationStatus
			failed = look.Get(ctx, &news)
			e.applyStatuses(news)
			e.pace = true
		})
	}
	if waits {
		selector.AddFuture(workflow.NewTimerWithOptions(ctx, due.Sub(now), workflow.TimerOptions{Summary: "until more keys may be raised"}), func(workflow.Future) {})
	}
	selector.AddReceive(e.root.Done(), func(c workflow.ReceiveChannel, _ bool) { c.Receive(e.ctx, nil) })
	selector.Select(e.ctx)
	return failed
}

// due is when time alone makes it possible to raise a row; false if it does not.
func (e *emergencyRun) due() (at time.Time, waits bool) {
	fresh, again := false, false
	for i := range e.Keys {
		if r := &e.Keys[i]; r.State == Queued {
			fresh, again = fresh || r.Tries == 0, again || r.Tries > 0
		}
	}
	now := workflow.Now(e.ctx)
	switch {
	case !fresh && !again:
		return at, false
	case e.busy() < e.in.Concurrency && fresh:
		return now, true
	case e.busy() < e.in.Concurrency:
		return e.tryAgain, true
	}
	for i := range e.Keys {
		if until := e.Keys[i].busyUntil(); now.Before(until) && (at.IsZero() || until.Before(at)) {
			at = until
		}
	}
	return at.Add(slotsTogether), true
}

// statusesInput are the rotations that have begun and not ended.
func (e *emergencyRun) statusesInput() activities.StatusesInput {
	in := activities.StatusesInput{ID: e.ID}
	for i := range e.Keys {
		if r := &e.Keys[i]; r.State == UnderWay || r.State == Waiting {
			in.Names = append(in.Names, r.Key)
		}
	}
	return in
}

// row returns the row of a key; nil if the emergency is not about it.
func (e *emergencyRun) row(key string) *KeyProgress {
	if e.rows == nil {
		e.rows = make(map[string]int, len(e.Keys))
		for i, r := range e.Keys {
			e.rows[r.Key] = i
		}
	}
	if i, ok := e.rows[key]; ok {
		return &e.Keys[i]
	}
	return nil
}

// applyStatuses takes the statuses of rotations.
func (e *emergencyRun) applyStatuses(statuses []activities.RotationStatus) {
	for _, s := range statuses {
		if r := e.row(s.Key); r != nil {
			r.applyStatus(s, workflow.Now(e.ctx))
		}
	}
}

// follow reads the status of the rotations that have begun once more.
func (e *emergencyRun) follow() error {
	in := e.statusesInput()
	if len(in.Names) == 0 {
		return nil
	}
	var out []activities.RotationStatus
	ctx := e.summary(e.ctx, fmt.Sprintf("read the status of %d rotation(s)", len(in.Names)))
	if err := workflow.ExecuteActivity(ctx, activities.StatusesName, in).Get(ctx, &out); err != nil {
		return err
	}
	e.applyStatuses(out)
	return nil
}
