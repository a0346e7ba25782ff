package corpus

import (
	"fmt"

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

// Follow replays a run, and says which way it went.
func Follow(h *historypb.History) (Trail, error) {
	var t Trail
	err := replaytest.Replay(h, &Watcher{
		Enter: func(ctx workflow.Context, s rotation.State) {
			t.Visits = append(t.Visits, Visit{State: s, Task: workflow.GetInfo(ctx).GetCurrentHistoryLength()})
		},
		Hear: func(_ workflow.Context, m Message) {
			if n := len(t.Visits); n > 0 {
				t.Visits[n-1].Heard = append(t.Visits[n-1].Heard, m)
			}
		},
	})
	if err != nil || len(t.Visits) == 0 {
		return t, err
	}
	events := h.GetEvents()
	if err := converter.GetDefaultDataConverter().FromPayloads(events[0].GetWorkflowExecutionStartedEventAttributes().GetInput(), &t.In); err != nil {
		return t, fmt.Errorf("the input of a rotation cannot be read: %w", err)
	}
	if next := events[len(events)-1].GetWorkflowExecutionContinuedAsNewEventAttributes(); next != nil {
		var in workflows.Input
		if err := converter.GetDefaultDataConverter().FromPayloads(next.GetInput(), &in); err != nil {
			return t, fmt.Errorf("the input of the next run cannot be read: %w", err)
		}
		if in.Resume != nil {
			t.Resumes = &in.Resume.At
		}
	}
	return t, nil
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
