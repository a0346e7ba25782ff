package workflows

import (
	"fmt"
	"slices"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows/details"
)

// keepEarly keeps a signal that came before its phase, in the place of one of the same kind.
func (r *runner) keepEarly(kind rotation.DecisionKind, m rotation.DecisionMessage) {
	r.Direction.Early = append(slices.DeleteFunc(r.Direction.Early, func(d rotation.Decision) bool {
		if d.Kind == kind {
			r.supplanted(d.Version, m.Version)
		}
		return d.Kind == kind
	}), rotation.Decision{Kind: kind, DecisionMessage: m.Bounded(), At: r.now()})
	r.Progress.Note = fmt.Sprintf("A signal %q came early. It is kept until it is needed.", kind)
}

// bufferable reports whether a signal that comes before its phase is clear enough to be kept: a key for a rotation that
// will ask for one, a revocation of the old key when applications read the new one. Both are checked all the same.
func (r *runner) bufferable(kind rotation.DecisionKind) bool {
	switch kind {
	case rotation.KeySupplied:
		switch r.At.Commitment {
		case rotation.Looking:
			return !r.At.Step.Closed()
		case rotation.Staged, rotation.ForwardOnly:
			return r.Keys.Prepared.SupplyByHand && r.Keys.New == nil
		}
	case rotation.KeyRevoked:
		before := slices.Contains([]rotation.Phase{rotation.Grace, rotation.Guard, rotation.AwaitingApproval, rotation.Revoke}, r.At.Step.Phase())
		return before && !r.Direction.PublishedAt.IsZero() && r.Keys.Prepared.RevokeByHand
	}
	return false
}

// neverAskedFor leaves to a person what was kept for a phase that did not come: a key was made that nobody uses, or one was
// revoked that was to stay.
func (r *runner) neverAskedFor() {
	for _, d := range r.Direction.Early {
		text := fmt.Sprintf("%s sent %s at %s, and this rotation never asked for it.", d.By, d.Kind, details.Moment(d.At))
		if d.Kind == rotation.KeySupplied {
			which := "the key that was supplied"
			if d.Version != "" {
				which = "version " + d.Version + " of " + r.in.Key.Stores[0].String() + " and its key"
			}
			text += " Delete " + which + ", if nobody uses it: " + r.Keys.Prepared.ProviderConsole
		}
		r.followUp(text)
	}
	r.Direction.Early = nil
}

// takeEarly takes a signal that was kept for the present phase. It reports whether there was one.
func (r *runner) takeEarly(kind rotation.DecisionKind) bool {
	i := slices.IndexFunc(r.Direction.Early, func(d rotation.Decision) bool { return d.Kind == kind })
	if i < 0 {
		return false
	}
	d := r.Direction.Early[i]
	r.Direction.Early = slices.Delete(slices.Clone(r.Direction.Early), i, i+1)
	checked, err := r.check(kind, d.DecisionMessage)
	if err != nil {
		return false
	}
	r.apply(checked)
	return true
}
