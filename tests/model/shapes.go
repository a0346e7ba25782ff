package model

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// Use is what the policy does where nobody can report whether the old key is in use.
type Use uint8

// The uses.
const (
	Timer Use = iota
	Ask
	Never
)

// Shape is what stays the same in a story: provider, policy, and how it begins.
type Shape struct {
	Name   string
	Stores int
	// SupplyByHand and RevokeByHand: the provider has no API for it. Disable: it can disable.
	SupplyByHand, RevokeByHand, Disable bool
	FourEyes                            bool
	Use                                 Use
	// Due: the key is old enough. Duty: an earlier rotation left one. NoOld: no store has a value. OneLacks: the second
	// store has none.
	Due, Duty, NoOld, OneLacks bool
	// Emergency and First: it is started as one, naming the old key.
	Emergency, First bool
	// Outside: somebody takes keys away behind rekey's back. Operated: somebody resets or terminates the workflow.
	Outside, Operated bool
	// Apart: other keys conflict with this one. Questions: providers without stamps, foreign claims. Approve: a person
	// approves every revoke. Asked: a person asked for it, whatever the key's age.
	Apart, Questions, Approve, Asked bool
}

// first is where a rotation begins.
func (s *Shape) first() step {
	if s.Apart {
		return conflicts
	}
	return prepare
}

// Shapes are the stories that are explored.
var Shapes = []Shape{
	{Name: "mint and disable", Stores: 2, Disable: true, Due: true},
	{Name: "delete only, a duty is left, approval", Stores: 2, Due: true, Duty: true, Use: Ask, Approve: true},
	{Name: "only a duty is left", Stores: 1, Disable: true, Duty: true, Apart: true},
	{Name: "by hand", Stores: 1, SupplyByHand: true, RevokeByHand: true, Due: true, Questions: true, Use: Never},
	{Name: "four eyes", Stores: 1, Disable: true, FourEyes: true, Due: true},
	{Name: "keys die", Stores: 1, Disable: true, Due: true, Outside: true},
	{Name: "the second store lacks the value", Stores: 2, Disable: true, Due: true, OneLacks: true},
	{Name: "the first key", Stores: 1, NoOld: true, Due: true, Operated: true},
	{Name: "emergency", Stores: 2, Emergency: true, Duty: true},
	{Name: "emergency, revoke first", Stores: 1, Emergency: true, First: true, Disable: true, Questions: true},
	{Name: "emergency, revoke first, by hand", Stores: 1, Emergency: true, First: true, SupplyByHand: true, RevokeByHand: true, Questions: true},
	{Name: "supplied by hand", Stores: 2, SupplyByHand: true, RevokeByHand: true, Due: true, OneLacks: true},
	{Name: "supplied by hand, emergency, revoke first", Stores: 2, Emergency: true, First: true, SupplyByHand: true},
	{Name: "revoked by hand, emergency, revoke first", Stores: 1, Emergency: true, First: true, RevokeByHand: true},
	{Name: "disable, reset and terminated", Stores: 1, Due: true, Asked: true, Disable: true, Operated: true},
	{Name: "the second store lacks the value, terminated", Stores: 2, Due: true, OneLacks: true, Operated: true},
	{Name: "reset and terminated", Stores: 2, Due: true, Operated: true, Questions: true},
}

// stories are the shapes that are explored, and many more for the walk beside the real workflow.
var stories = append(slices.Clone(Shapes), mixed(150)...)

// mixed makes shapes of all properties, always the same ones.
func mixed(n int) []Shape {
	rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same shapes every time, on purpose
	some := func(one int) bool { return rng.IntN(one) == 0 }
	var all []Shape
	for len(all) < n {
		s := Shape{
			Stores: 1 + rng.IntN(2), SupplyByHand: some(3), RevokeByHand: some(4), Disable: !some(3), FourEyes: some(5), Use: Use(rng.IntN(3)),
			Due: !some(5), Duty: some(3), NoOld: some(8), OneLacks: some(4), Emergency: some(4), First: some(2),
			Outside: true, Operated: true, Apart: some(5), Questions: some(2), Approve: some(3), Asked: some(2),
		}
		s.Disable = s.Disable && !s.RevokeByHand
		s.Due = s.Due || s.Asked
		s.First = s.First && s.Emergency
		if s.OneLacks && s.Stores == 1 || s.NoOld && (s.OneLacks || s.Emergency || s.Duty) {
			continue
		}
		s.Name = fmt.Sprintf("mixed %d: %+v", len(all), s)
		all = append(all, s)
	}
	return all
}

// Initial is where the story of a shape begins.
func Initial(shape int) State {
	sh := stories[shape]
	s := State{Shape: uint8(shape), Round: 1, Step: sh.first(), Emergency: sh.Emergency, First: sh.First}
	if !sh.NoOld {
		s.Live |= set(Old)
		for _, i := range s.stores() {
			s.Stores[i] = Store{Current: Old, Values: set(Old)}
		}
	}
	if sh.OneLacks {
		s.Stores[1] = Store{}
	}
	if sh.Duty {
		s.Live |= set(Duty)
		s.Owed |= set(Duty)
		s.Stores[0].Values |= set(Duty)
	}
	if sh.Emergency {
		s.Leaked = set(Old)
	}
	return s
}
