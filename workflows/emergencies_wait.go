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
func (f *emergencyRun) wait() error {
	if f.pace {
		f.pace = false
		// The first of many news rarely comes alone.
		if err := workflow.NewTimerWithOptions(f.root, time.Second, workflow.TimerOptions{Summary: "until the next look"}).Get(f.root, nil); err != nil {
			return nil // it was cancelled, which the caller sees
		}
	}
	due, waits := f.due()
	now := workflow.Now(f.ctx)
	if waits && !due.After(now) {
		return nil
	}
	ctx, stop := workflow.WithCancel(f.ctx)
	// A look that is cut short changes nothing: nobody waits for it to end.
	defer stop()
	selector := workflow.NewSelector(f.ctx)
	var failed error
	if in := f.statusesInput(); len(in.Names) > 0 {
		for _, name := range in.Names {
			r := f.row(name)
			in.Known = append(in.Known, activities.KnownStatus{Phase: r.Phase, Unreadable: r.Unreadable})
		}
		text := fmt.Sprintf("until there is news of %d rotation(s); who is waited for is under User Metadata", len(in.Names))
		selector.AddFuture(workflow.ExecuteActivity(f.summary(ctx, text), activities.StatusesName, in), func(look workflow.Future) {
			var news []activities.RotationStatus
			failed = look.Get(ctx, &news)
			f.applyStatuses(news)
			f.pace = true
		})
	}
	if waits {
		selector.AddFuture(workflow.NewTimerWithOptions(ctx, due.Sub(now), workflow.TimerOptions{Summary: "until more keys may be raised"}), func(workflow.Future) {})
	}
	selector.AddReceive(f.root.Done(), func(c workflow.ReceiveChannel, _ bool) { c.Receive(f.ctx, nil) })
	selector.Select(f.ctx)
	return failed
}

// due is when time alone makes it possible to raise a row; false if it does not.
func (f *emergencyRun) due() (at time.Time, waits bool) {
	fresh, again := false, false
	for i := range f.Keys {
		if r := &f.Keys[i]; r.State == Queued {
			fresh, again = fresh || r.Tries == 0, again || r.Tries > 0
		}
	}
	now := workflow.Now(f.ctx)
	switch {
	case !fresh && !again:
		return at, false
	case f.busy() < f.in.Concurrency && fresh:
		return now, true
	case f.busy() < f.in.Concurrency:
		return f.tryAgain, true
	}
	for i := range f.Keys {
		if until := f.Keys[i].busyUntil(); now.Before(until) && (at.IsZero() || until.Before(at)) {
			at = until
		}
	}
	return at.Add(slotsTogether), true
}

// statusesInput are the rotations that have begun and not ended.
func (f *emergencyRun) statusesInput() activities.StatusesInput {
	in := activities.StatusesInput{ID: f.ID}
	for i := range f.Keys {
		if r := &f.Keys[i]; r.State == UnderWay || r.State == Waiting {
			in.Names = append(in.Names, r.Key)
		}
	}
	return in
}

// row is the row of a key; nil if the emergency is not about it.
func (f *emergencyRun) row(key string) *KeyProgress {
	if f.rows == nil {
		f.rows = make(map[string]int, len(f.Keys))
		for i, r := range f.Keys {
			f.rows[r.Key] = i
		}
	}
	if i, ok := f.rows[key]; ok {
		return &f.Keys[i]
	}
	return nil
}

// applyStatuses takes how rotations stand.
func (f *emergencyRun) applyStatuses(standings []activities.RotationStatus) {
	for _, s := range standings {
		if r := f.row(s.Key); r != nil {
			r.applyStatus(s, workflow.Now(f.ctx))
		}
	}
}

// follow looks once at the rotations that have begun.
func (f *emergencyRun) follow() error {
	in := f.statusesInput()
	if len(in.Names) == 0 {
		return nil
	}
	var out []activities.RotationStatus
	ctx := f.summary(f.ctx, fmt.Sprintf("read the status of %d rotation(s)", len(in.Names)))
	if err := workflow.ExecuteActivity(ctx, activities.StatusesName, in).Get(ctx, &out); err != nil {
		return err
	}
	f.applyStatuses(out)
	return nil
}
