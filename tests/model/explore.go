package model

import (
	"fmt"
	"strings"

	"github.com/rekeyhq/rekey/rotation"
)

// Arrow is a transition in the diagram.
type Arrow struct{ From, To rotation.State }

// Explored is what an exploration saw.
type Explored struct {
	Transitions int
	// Depth is how many inputs the deepest state is away from its beginning; Whole: there is none deeper.
	Depth int
	Whole bool

	taken [24][6][24][6]bool

	seen   map[State]uint32
	states []State
	parent []uint32
	via    []Input
}

// Violation is the shortest way to a state in which something does not hold.
type Violation struct {
	Err  error
	Path []string
}

func (v *Violation) Error() string {
	return fmt.Sprintf("%v\n  %s", v.Err, strings.Join(v.Path, "\n  "))
}

// Explore visits every state that can be reached from the beginnings within so many inputs, nearest first.
func (m Model) Explore(from []State, depth int) (*Explored, error) {
	e := &Explored{seen: map[State]uint32{}}
	for _, s := range from {
		e.add(s, 0, inputs)
	}
	begin, end := 0, len(e.states)
	for ; begin < end && e.Depth < depth; e.Depth++ {
		for at := begin; at < end; at++ {
			s := e.states[at]
			for in := range inputs {
				next, ok := m.Step(s, in)
				if !ok {
					continue
				}
				e.Transitions++
				if err := m.check(s, in, next); err != nil {
					return e, &Violation{err, append(e.path(at), in.String()+"  ->  "+next.String())}
				}
				if !begins(s, in, next) {
					e.taken[s.Step][s.Commitment][next.Step][next.Commitment] = true
				}
				e.add(next, uint32(at), in)
			}
		}
		begin, end = end, len(e.states)
	}
	e.Whole = begin == end
	return e, nil
}

func (e *Explored) add(s State, parent uint32, via Input) {
	if _, known := e.seen[s]; known {
		return
	}
	e.seen[s] = uint32(len(e.states))
	e.states, e.parent, e.via = append(e.states, s), append(e.parent, parent), append(e.via, via)
}

// path returns how a state was reached.
func (e *Explored) path(at int) []string {
	var lines []string
	for ; e.via[at] != inputs; at = int(e.parent[at]) {
		lines = append([]string{e.via[at].String() + "  ->  " + e.states[at].String()}, lines...)
	}
	return append([]string{e.states[at].shape().Name + "  ->  " + e.states[at].String()}, lines...)
}

// Arrows are the transitions that the exploration took.
func (e *Explored) Arrows() []Arrow {
	var all []Arrow
	for i, s := range steps {
		for j, c := range commitments {
			for x, t := range steps {
				for y, d := range commitments {
					if e.taken[i][j][x][y] {
						all = append(all, Arrow{rotation.State{Step: s, Commitment: c}, rotation.State{Step: t, Commitment: d}})
					}
				}
			}
		}
	}
	return all
}

// String returns what a person would look at.
func (s State) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s", s.At())
	if s.Round > 1 {
		fmt.Fprintf(&text, " (rotation %d)", s.Round)
	}
	if s.Question != NoQuestion {
		fmt.Fprintf(&text, " asks %q", questionNames[s.Question])
	}
	fmt.Fprintf(&text, "; live%v", s.Live)
	for _, set := range []struct {
		name string
		keys Keys
	}{{"off", s.Off}, {"killed", s.Killed}, {"leaked", s.Leaked}, {"may be minted late", s.LateMint}, {"may be disabled late", s.LateDisable}, {"may be deleted late", s.LateDelete}, {"owed", s.Owed}, {"replaces", s.Olds}} {
		if set.keys != 0 {
			fmt.Fprintf(&text, " %s%v", set.name, set.keys)
		}
	}
	for _, i := range s.stores() {
		fmt.Fprintf(&text, "; store %d: %v, pending %v", i+1, s.Stores[i].Current, s.Stores[i].Pending)
	}
	for _, flag := range []struct {
		name string
		on   bool
	}{{"emergency", s.Emergency}, {"roll-back asked", s.Request}, {"another follows", s.Follow}, {"grace over", s.GraceOver}, {"released", s.Released}, {"claim open", s.Open}, {"overdue", s.Overdue}} {
		if flag.on {
			text.WriteString("; " + flag.name)
		}
	}
	return text.String()
}
