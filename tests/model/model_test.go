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
		return 10
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("REKEY_MODEL_DEPTH: %v", err)
	}
	return n
}

func TestEverythingThatCanHappenKeepsTheInvariantsAndEveryArrowIsTaken(t *testing.T) {
	t.Parallel()
	states, transitions, deepest, whole := 0, 0, 0, true
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
		whole = whole && e.Whole
		for _, a := range e.Arrows() {
			taken[a] = true
		}
	}
	fmt.Printf("model: %d states, %d transitions, depth %d\n", states, transitions, deepest)
	if whole {
		fmt.Println("model: nothing lies deeper")
	}
	for _, a := range arrows() {
		if !taken[a] {
			t.Errorf("nothing takes the arrow from %s to %s", a.From, a.To)
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
