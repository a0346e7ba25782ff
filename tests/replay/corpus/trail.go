package corpus

import (
	"errors"
	"fmt"
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
	"github.com/rekeyhq/rekey/workflows/replaytest"
)

// Visit is a stay of a rotation in a state.
type Visit struct {
	State rotation.State
	// Task is the event of the workflow task in which it came there.
	Task int
	// Heard are the messages that came meanwhile.
	Heard []Message
}

// Trail is what the replay of one run shows.
type Trail struct {
	Visits []Visit
	// In is the input of a rotation. Resumes is the state in which the next run goes on; nil if there is none, or if it is of another rotation.
	In      workflows.Input
	Resumes *rotation.State
}

// Follow replays a run, and says which way it went. Temporal's replay looks at commands, not at what they carry, and lets a
// version pass that nobody asks for any more. Follow also holds to the history which versions are asked for, how a rotation
// ends, and where it goes on.
func Follow(h *historypb.History) (Trail, error) {
	var t Trail
	var result any
	var ends error
	asked := map[string]bool{}
	err := replaytest.Replay(h, &Watcher{
		Enter: func(ctx workflow.Context, s rotation.State) {
			t.Visits = append(t.Visits, Visit{State: s, Task: workflow.GetInfo(ctx).GetCurrentHistoryLength()})
		},
		Hear: func(_ workflow.Context, m Message) {
			if n := len(t.Visits); n > 0 {
				t.Visits[n-1].Heard = append(t.Visits[n-1].Heard, m)
			}
		},
		End:   func(r any, err error) { result, ends = r, err },
		Asked: func(change string) { asked[change] = true },
	})
	if err == nil {
		err = versioned(h, asked)
	}
	if err != nil || len(t.Visits) == 0 {
		return t, err
	}
	events := h.GetEvents()
	if err := read(events[0].GetWorkflowExecutionStartedEventAttributes().GetInput(), &t.In); err != nil {
		return t, err
	}
	return t, t.hold(events[len(events)-1], result, ends)
}

// versioned returns an error if the history has the version of a change that nobody asks for: the code that goes the old way
// was taken out while rotations are under way that went it.
func versioned(h *historypb.History, asked map[string]bool) error {
	for _, e := range h.GetEvents() {
		m := e.GetMarkerRecordedEventAttributes()
		if m.GetMarkerName() != versionMarker {
			continue
		}
		var change string
		if err := read(m.GetDetails()["change-id"], &change); err != nil {
			return err
		}
		if !asked[change] {
			return fmt.Errorf("event %d is the version of the change %q, which the code of today does not ask for", e.GetEventId(), change)
		}
	}
	return nil
}

// versionMarker is what the SDK calls the marker of workflow.GetVersion.
const versionMarker = "Version"

// hold holds the end of a run to its last event.
func (t *Trail) hold(last *historypb.HistoryEvent, result any, ends error) error {
	var leaves *workflow.ContinueAsNewError
	switch last.GetEventType() {
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
		var was rotation.Result
		if err := read(last.GetWorkflowExecutionCompletedEventAttributes().GetResult(), &was); err != nil {
			return err
		}
		is, ok := result.(rotation.Result)
		if !ok || is.Phase != was.Phase || is.Reason != was.Reason || is.NotDue != was.NotDue || !slices.Equal(is.Revoked, was.Revoked) {
			return fmt.Errorf("it ended in %s (%s), revoked %v; with the code of today it ends in %s (%s), revokes %v", was.Phase, was.Reason, was.Revoked, is.Phase, is.Reason, is.Revoked)
		}
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
		var was, is workflows.Input
		if err := read(last.GetWorkflowExecutionContinuedAsNewEventAttributes().GetInput(), &was); err != nil {
			return err
		}
		if !errors.As(ends, &leaves) {
			return fmt.Errorf("it went on in a new run; with the code of today it ends: %w", ends)
		}
		if err := read(leaves.Input, &is); err != nil {
			return err
		}
		if from, to := first(was), first(is); from != to || (was.Resume == nil) != (is.Resume == nil) {
			return fmt.Errorf("it went on in %s; with the code of today it goes on in %s", from, to)
		}
		if was.Resume != nil {
			t.Resumes = &was.Resume.At
		}
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
		if ends == nil || errors.As(ends, &leaves) {
			return errors.New("it failed; with the code of today it does not")
		}
	}
	return nil
}

func read(payloads *commonpb.Payloads, into any) error {
	if err := converter.GetDefaultDataConverter().FromPayloads(payloads, into); err != nil {
		return fmt.Errorf("what a run was given, or has left, cannot be read: %w", err)
	}
	return nil
}

// Shape is the shape of the rotation.
func (t Trail) Shape() Shape {
	k := t.In.Key
	return Shape{ByHand: k.Provider == "openai", TwoStores: len(k.Stores) > 1, FourEyes: k.Policy.FourEyes}
}

// Passing reports whether the i-th visit ended in the workflow task in which it began: nothing could come meanwhile.
func (t Trail) Passing(i int) bool {
	return i+1 < len(t.Visits) && t.Visits[i].Task == t.Visits[i+1].Task
}

// Turns returns every turn that the run shows.
func (t Trail) Turns() (all []Turn) {
	shape := t.Shape()
	for i, v := range t.Visits {
		shown := func(a Action) { all = append(all, Turn{v.State, a, shape}) }
		as := GoOn
		for _, m := range v.Heard {
			switch {
			case m.Kind == rotation.RaiseEmergency && m.Names:
				as = LeakedKey
			case m.Kind == rotation.RaiseEmergency:
				as = Emergency
			case m.Kind == rotation.RollBack && i+1 < len(t.Visits) && backwards(t.Visits[i+1].State) && !backwards(v.State):
				as = RollBack
			}
		}
		if i+1 == len(t.Visits) && t.Resumes != nil && *t.Resumes == v.State && as == GoOn {
			as = ContinueAsNew
		}
		shown(as)
	}
	return all
}

func backwards(s rotation.State) bool {
	return s.Commitment.Backwards() || s.Step == rotation.StepRolledBack
}
