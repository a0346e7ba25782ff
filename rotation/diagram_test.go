package rotation

import (
	"slices"
	"testing"
)

func TestEveryStepHasAPhaseAndIsInTheDiagram(t *testing.T) {
	var seen []Step
	for _, tr := range Diagram() {
		seen = append(append(seen, tr.From...), tr.To...)
		if tr.By == "" || tr.Cause == "" || len(tr.From) == 0 || len(tr.To) == 0 {
			t.Errorf("an arrow says too little: %+v", tr)
		}
	}
	for _, s := range seen {
		if s.Phase() == "" {
			t.Errorf("the step %q has no phase", s)
		}
	}
	for s := range phases {
		if !slices.Contains(seen, s) {
			t.Errorf("no arrow has the step %q", s)
		}
	}
}

// reachable are the states that a rotation can come to from a state.
func reachable(from State) map[State]bool {
	seen := map[State]bool{from: true}
	for queue := []State{from}; len(queue) > 0; queue = queue[1:] {
		for _, tr := range Diagram() {
			if tr.In != queue[0].Commitment || !slices.Contains(tr.From, queue[0].Step) {
				continue
			}
			for _, to := range tr.To {
				if s := (State{to, tr.Into}); !seen[s] {
					seen[s], queue = true, append(queue, s)
				}
			}
		}
	}
	return seen
}

func TestEveryStateIsReachedAndLeadsToTheEnd(t *testing.T) {
	from := reachable(State{StepConflicts, Looking})
	for _, tr := range Diagram() {
		for _, step := range tr.From {
			if s := (State{step, tr.In}); !from[s] {
				t.Errorf("an arrow begins at %s, which nothing leads to", s)
			}
		}
	}
	for s := range from {
		ends := false
		for e := range reachable(s) {
			ends = ends || e.Step.Closed()
		}
		if !ends {
			t.Errorf("from %s nothing leads to an end", s)
		}
	}
}

func TestTheWayBackDependsOnTheCommitmentAlone(t *testing.T) {
	for _, c := range Commitments() {
		back := false
		for _, tr := range Diagram() {
			if tr.In == c && !c.Backwards() && (tr.Into.Backwards() || slices.Contains(tr.To, StepRolledBack)) {
				back = true
			}
		}
		if back != c.CanRollBack() {
			t.Errorf("%s: the diagram has a way back: %v; CanRollBack: %v", c, back, c.CanRollBack())
		}
	}
}

func TestAStepThatTheDiagramDoesNotHaveIsRefused(t *testing.T) {
	for sentence, tr := range map[string][2]State{
		"a mint after a promote":                  {{StepGrace, BothKeys}, {StepCreate, BothKeys}},
		"a revoke before the promote":             {{StepVerify, Staged}, {StepDelete, ForwardOnly}},
		"a delete without a guard":                {{StepGrace, BothKeys}, {StepDelete, ForwardOnly}},
		"a way back from where there is none":     {{StepGuard, ForwardOnly}, {StepVerify, Reversing}},
		"an end with both keys":                   {{StepGrace, BothKeys}, {StepCompleted, BothKeys}},
		"a promote of what was not proven":        {{StepStore, Staged}, {StepPromote, BothKeys}},
		"a discard of what applications may read": {{StepGrace, BothKeys}, {StepDiscard, Discarding}},
	} {
		if Check(tr[0], tr[1]) == nil {
			t.Errorf("%s is allowed: %s to %s", sentence, tr[0], tr[1])
		}
	}
}
