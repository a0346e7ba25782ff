package client

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	workflowpb "go.temporal.io/api/workflow/v1"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// watchInterval is how often Watch looks.
const watchInterval = 300 * time.Millisecond

// Step is a phase that a rotation has entered, as Watch shows it.
type Step struct {
	rotation.TrailEntry
	// Status is what the rotation said of itself while it was in this phase; nil where the phase was over before anybody
	// looked.
	Status *rotation.Status
	// Result is set with the last step, and says how the rotation ended.
	Result *rotation.Result
}

// Watch shows the phases of the latest rotation of a key, one after the other, from its first one to its end. Phases that
// were over in no time are shown too. The last step has a Result; one that was terminated from outside has a last step
// with the phase "terminated".
//
// While no worker answers it waits on. After an error there are no more steps: ErrNotFound if there is no rotation, the
// context's own error, or that Temporal did not answer for half a minute. The rotation goes on in any case, and may be
// watched again. Leaving the loop ends the watching only.
func (c *Client) Watch(ctx context.Context, key string) iter.Seq2[Step, error] {
	return func(yield func(Step, error) bool) {
		w := watch{c: c, key: key}
		for {
			l, err := retryUnknown(ctx, func(ctx context.Context, _ bool) (look, error) { return w.look(ctx) })
			if ctx.Err() != nil {
				yield(Step{}, fmt.Errorf("the rotation of %s is not watched any more: %w", key, ctx.Err()))
				return
			} else if err != nil {
				yield(Step{}, fmt.Errorf("the rotation of %s cannot be watched: %w", key, err))
				return
			}
			for _, s := range w.steps(l) {
				if !yield(s, nil) {
					return
				}
			}
			if l.result != nil {
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(watchInterval):
			}
		}
	}
}

// watch is what Watch remembers between two looks.
type watch struct {
	c   *Client
	key string
	// first and run are the first and the latest run of the rotation that is watched.
	first, run string
	last       rotation.TrailEntry
}

// look is what was seen at one moment: a rotation that runs, one that nobody speaks for, or one that has ended.
type look struct {
	status *rotation.Status
	result *rotation.Result
}

func (w *watch) look(ctx context.Context) (look, error) {
	info, err := w.c.describe(ctx, w.key, "")
	if err != nil {
		return look{}, err
	}
	if w.first == "" {
		w.first = firstRun(info)
	}
	if firstRun(info) != w.first {
		// The one that is watched has ended, and another one has begun since.
		var res rotation.Result
		if err := w.c.WaitRun(ctx, workflows.ID(w.key), w.run, &res); err != nil {
			return look{}, ended(w.key, err)
		}
		return look{result: &res}, nil
	}
	w.run = info.GetExecution().GetRunId()
	if !running(info) {
		res, err := endOf(info, w.key)
		return look{result: &res}, err
	}
	s, err := w.c.status(ctx, w.key, w.run)
	if err != nil {
		return look{}, nil //nolint:nilerr // no worker answers now; it is looked again
	}
	return look{status: &s}, nil
}

func firstRun(info *workflowpb.WorkflowExecutionInfo) string {
	if first := info.GetFirstRunId(); first != "" {
		return first
	}
	return info.GetExecution().GetRunId()
}

// steps are the phases that were entered since the last look.
func (w *watch) steps(l look) (steps []Step) {
	switch {
	case l.result != nil:
		for _, e := range w.after(l.result.Trail) {
			steps = append(steps, Step{TrailEntry: e})
		}
		if len(steps) == 0 {
			steps = []Step{{TrailEntry: rotation.TrailEntry{Phase: l.result.Phase, At: l.result.EndedAt}}}
		}
		steps[len(steps)-1].Result = l.result
	case l.status != nil:
		for _, e := range w.after(l.status.Trail) {
			if e.Phase.Closed() {
				break // it comes with the result
			}
			w.last = e
			steps = append(steps, Step{TrailEntry: e})
		}
		if n := len(steps); n > 0 && steps[n-1].Phase == l.status.Phase {
			steps[n-1].Status = l.status
		}
	}
	return steps
}

// after are the entries of a trail that follow the last one that was shown. A very long trail has lost its beginning.
func (w *watch) after(trail []rotation.TrailEntry) []rotation.TrailEntry {
	if w.last.At.IsZero() {
		return trail
	}
	for i, e := range slices.Backward(trail) {
		if e.Phase == w.last.Phase && e.At.Equal(w.last.At) {
			return trail[i+1:]
		}
	}
	i := slices.IndexFunc(trail, func(e rotation.TrailEntry) bool { return e.At.After(w.last.At) })
	if i < 0 {
		return nil
	}
	return trail[i:]
}
