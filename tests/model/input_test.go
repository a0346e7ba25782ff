package model

import (
	"fmt"
	"slices"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/lockstep"
	"github.com/rekeyhq/rekey/rotation"
)

// same reports whether names are those of keys.
func same(got []activities.Ref, want Keys) bool {
	var all []string
	for _, r := range got {
		all = append(all, r.KeyID)
	}
	slices.Sort(all)
	expected := names(want)
	slices.Sort(expected)
	return slices.Equal(all, expected)
}

// lookAtInput holds what an activity is asked for to the model.
func (w *walk) lookAtInput(a lockstep.Activity) error {
	s := w.s
	differ := func(what string, got any, want any) error { return fmt.Errorf("%s is %v, want %v", what, got, want) }
	switch a.Type {
	case "Prepare":
		var in activities.PrepareInput
		if err := a.Decode(&in); err != nil {
			return err
		}
		if got := in.Reason == rotation.Emergency; got != s.Emergency {
			return differ("emergency", got, s.Emergency)
		}
		if got := len(in.Predecessors) > 0; got != s.Follows {
			return differ("predecessors", in.Predecessors, s.Follows)
		}
		if got := len(in.Leaked) == 0; s.Emergency && got != s.Vague {
			return differ("everything leaked", got, s.Vague)
		}
		if s.Emergency && !s.Vague && s.Faults < 2 {
			for _, k := range w.told.each() {
				if !slices.Contains(in.Leaked, fingerprint(k)) {
					return differ("leaked", in.Leaked, w.told)
				}
			}
		}
	case "Create":
		var in activities.CreateInput
		if err := a.Decode(&in); err != nil {
			return err
		}
		if got := in.Replace != ""; s.Refused && !got {
			return differ("replace", in.Replace, s.Refused)
		}
	case "Adopt":
		var in activities.AdoptInput
		if err := a.Decode(&in); err != nil {
			return err
		}
		if !same(in.Old, s.Olds) {
			return differ("old", in.Old, s.Olds)
		}
	case "Store":
		var in activities.StoreInput
		if err := a.Decode(&in); err != nil {
			return err
		}
		if in.New.KeyID != id(s.incoming()) {
			return differ("new", in.New, s.incoming())
		}
	case "Verify":
		var in activities.VerifyInput
		if err := a.Decode(&in); err != nil {
			return err
		}
		if in.Value.KeyID != id(s.incoming()) {
			return differ("value", in.Value, s.incoming())
		}
	case "Promote":
		var in activities.PromoteInput
		if err := a.Decode(&in); err != nil {
			return err
		}
		if in.To.KeyID != id(s.incoming()) {
			return differ("to", in.To, s.incoming())
		}
		if !same(in.Duties, s.outgoing()) {
			return differ("duties", in.Duties, s.outgoing())
		}
	case "CheckHealth":
		var in activities.HealthInput
		if err := a.Decode(&in); err != nil {
			return err
		}
		if in.New.KeyID != id(s.incoming()) || !same(in.Old, s.outgoing()) {
			return differ("new and old", in, s.incoming())
		}
	case "Guard":
		var in activities.GuardInput
		if err := a.Decode(&in); err != nil {
			return err
		}
		if !same(in.Old, s.outgoing()) {
			return differ("old", in.Old, s.outgoing())
		}
	case "Revoke":
		var in activities.RevokeInput
		if err := a.Decode(&in); err != nil {
			return err
		}
		return w.lookAtRevoke(in)
	case "Confirm":
		var in activities.ConfirmInput
		if err := a.Decode(&in); err != nil {
			return err
		}
		if in.New == nil || in.New.KeyID != id(s.incoming()) || !same(in.Keys, s.outgoing()) {
			return differ("new and keys", in, s.outgoing())
		}
	case "Retire":
		var in activities.RetireInput
		if err := a.Decode(&in); err != nil {
			return err
		}
		if !same(in.Gone, s.outgoing()) || len(in.Predecessors) > 0 != s.Follows {
			return differ("gone", in.Gone, s.outgoing())
		}
		if in.Keep == nil != (s.incoming() == NoKey) || in.Keep != nil && in.Keep.KeyID != id(s.incoming()) {
			return differ("keep", in.Keep, s.incoming())
		}

	}
	return nil
}

func (w *walk) lookAtRevoke(in activities.RevokeInput) error {
	s := w.s
	mode, keys := activities.DeleteKey, s.outgoing()
	switch s.Step {
	case contain:
		keys = s.Olds
		if s.shape().Disable {
			mode = activities.DisableKey
		}
	case disable:
		mode = activities.DisableKey
	case enable:
		mode, keys = activities.EnableKey, s.Olds
	case remove:
		keys = set(w.m.nextToDelete(s))
	}
	switch {
	case in.Mode != mode:
		return fmt.Errorf("mode is %s, want %s", in.Mode, mode)
	case !same(in.Keys, keys):
		return fmt.Errorf("keys are %v, want %v", in.Keys, keys)
	case in.Contain != (s.Step == contain):
		return fmt.Errorf("contain is %v", in.Contain)
	case s.Step == enable:
		if in.Keys[0].KeyID != id(s.Back) {
			return fmt.Errorf("the first key is %v, want %v", in.Keys[0], s.Back)
		}
		return nil
	case in.Emergency != "" != s.Emergency:
		return fmt.Errorf("emergency is %q, want %v", in.Emergency, s.Emergency)
	case s.Step != contain && in.Keep.KeyID != id(s.incoming()):
		return fmt.Errorf("keep is %v, want %v", in.Keep, s.incoming())
	}
	return nil
}
