package model

import (
	"fmt"
	"os"
	"strconv"
	"testing"
)

// depth is how many inputs the exploration goes from the beginning of each story.
func depth(t *testing.T) int {
	if text := os.Getenv("REKEY_MODEL_DEPTH"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("REKEY_MODEL_DEPTH: %v", err)
		}
		return n
	}
	return 8
}

func (m Model) roots(shape int) []State {
	all := m.Way(Initial(shape))
	for _, s := range all {
		if s.Commitment == bothKeys || s.Commitment == staged {
			if back, ok := m.Step(s, SayRollBack); ok {
				all = append(all, m.Way(back)...)
			}
		}
	}
	return all
}

func TestExploreShapes(t *testing.T) {
	for i, sh := range Shapes {
		t.Run(sh.Name, func(t *testing.T) {
			e, err := Model{}.Explore(Model{}.roots(i), depth(t))
			if err != nil {
				t.Error(err)
			} else if err := (Model{}).End(e); err != nil {
				t.Error(err)
			}
			fmt.Printf("model: %d states, %d transitions, depth %d %v\n", len(e.states), e.Transitions, e.Depth, e.Whole)
		})
	}
}
