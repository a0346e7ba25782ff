package model

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/rekeyhq/rekey/rotation"
)

// depth is how many inputs the exploration goes away from the ordinary way of each story. More takes longer.
func depth(t *testing.T) int {
	text := os.Getenv("REKEY_MODEL_DEPTH")
	if text == "" {
		return 12
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("REKEY_MODEL_DEPTH: %v", err)
	}
	return n
}

// dead are arrows that nothing in the model takes, and why.
var dead = func() map[Arrow]string {
	all := map[Arrow]string{}
	add := func(why string, in rotation.Commitment, from rotation.Step, into rotation.Commitment, to ...rotation.Step) {
		for _, t := range to {
			all[Arrow{rotation.State{Step: from, Commitment: in}, rotation.State{Step: t, Commitment: into}}] = why
		}
	}
	const contained = "what was contained before makes a rotation go forward only"
	add(contained, rotation.BothKeys, rotation.StepGuard, rotation.BothKeys, rotation.StepConfirm)
	add(contained, rotation.Reversing, rotation.StepGuard, rotation.Reversing, rotation.StepConfirm)
	const retired = "a rotation retires as ForwardOnly or Reversing"
	add(retired, rotation.BothKeys, rotation.StepRetire, rotation.BothKeys, rotation.StepApproval, rotation.StepCompleted)
	add(retired, rotation.BothKeys, rotation.StepApproval, rotation.BothKeys, rotation.StepRetire)
	const something = "with BothKeys and Reversing there is always a key to take away"
	add(something, rotation.BothKeys, rotation.StepGuard, rotation.ForwardOnly, rotation.StepRetire)
	add(something, rotation.Reversing, rotation.StepGuard, rotation.Reversing, rotation.StepRetire)
	const asked = "disable was asked for as soon as it is entered, so the way back enables"
	add(asked, rotation.BothKeys, rotation.StepDisable, rotation.Reversing, rotation.StepStore, rotation.StepVerify)
	add(asked, rotation.BothKeys, rotation.StepSoak, rotation.Reversing, rotation.StepStore, rotation.StepVerify)
	const byHand = "where keys are revoked by hand none is disabled"
	add(byHand, rotation.BothKeys, rotation.StepAwaitRevocation, rotation.Reversing, rotation.StepEnable)
	add(byHand, rotation.BothKeys, rotation.StepConfirm, rotation.Reversing, rotation.StepEnable)
	const given = "whoever gives the old key up goes forward only, so no disable lies behind a promote with BothKeys"
	add(given, rotation.BothKeys, rotation.StepPromote, rotation.Reversing, rotation.StepEnable)
	add("the new key is proven before anything goes: see Proposed", rotation.Discarding, rotation.StepDiscard, rotation.ForwardOnly, rotation.StepPromote)
	return all
}()

func TestEverythingThatCanHappenKeepsTheInvariantsAndEveryArrowIsTaken(t *testing.T) {
	states, transitions, deepest := 0, 0, 0
	taken := map[Arrow]bool{}
	for i, shape := range Shapes {
		e, err := Model{}.Explore(Model{}.Ways(i), depth(t))
		if err == nil {
			err = Model{}.End(e)
		}
		if err != nil {
			t.Errorf("%s: %v", shape.Name, err)
		}
		states, transitions, deepest = states+len(e.states), transitions+e.Transitions, max(deepest, e.Depth)
		for _, a := range e.Arrows() {
			taken[a] = true
		}
	}
	fmt.Printf("model: %d states, %d transitions, depth %d\n", states, transitions, deepest)
	for _, a := range arrows() {
		if why := dead[a]; !taken[a] && why == "" {
			t.Errorf("nothing takes the arrow from %s to %s", a.From, a.To)
		} else if taken[a] && why != "" {
			t.Errorf("the arrow from %s to %s is taken, and was said to be dead: %s", a.From, a.To, why)
		}
	}
	for _, a := range Proposed {
		if rotation.Allowed(a.From, a.To) {
			t.Errorf("the diagram has the arrow from %s to %s by now", a.From, a.To)
		}
	}
}

// arrows are those of the diagram, one by one.
func arrows() []Arrow {
	var all []Arrow
	for _, tr := range rotation.Diagram() {
		for _, from := range tr.From {
			for _, to := range tr.To {
				a := Arrow{rotation.State{Step: from, Commitment: tr.In}, rotation.State{Step: to, Commitment: tr.Into}}
				if a.From != a.To && !slices.Contains(all, a) {
					all = append(all, a)
				}
			}
		}
	}
	return all
}
