package workflows

import (
	"slices"
	"strings"

	"github.com/rekeyhq/rekey/activities"
)

// Keys are the keys that a rotation is about.
type Keys struct {
	Prepared activities.Prepared `json:"prepared"`
	// Old are the keys to revoke; the first is the one that applications read before. New is the one that replaces them.
	Old []activities.Ref `json:"old,omitempty"`
	New *activities.Ref  `json:"new,omitempty"`
	// Minted: rekey made the new key, so rekey may delete it.
	Minted bool `json:"minted,omitempty"`
	// Refused is the fingerprint of a new key that the provider refuses for good: another one takes its place.
	Refused string `json:"refused,omitempty"`
	// Found are values that somebody else made current while the rotation went on, Extra those of them that go too, because
	// a person said so.
	Found []activities.Ref `json:"found,omitempty"`
	Extra []activities.Ref `json:"extra,omitempty"`
	// DisableAsked: the old keys may be disabled.
	DisableAsked bool `json:"disableAsked,omitempty"`
	// RevokeAsked: a person was asked to revoke the old keys, and may have.
	RevokeAsked bool `json:"revokeAsked,omitempty"`
}

// incoming is the value that this direction makes current, outgoing what it revokes in the end.
func (r *runner) incoming() *activities.Ref {
	if r.backwards() {
		return &r.Keys.Old[0]
	}
	return r.Keys.New
}

func (r *runner) outgoing() []activities.Ref {
	if r.backwards() {
		return append([]activities.Ref{*r.Keys.New}, r.Keys.Extra...)
	}
	return append(slices.Clone(r.Keys.Old), r.Keys.Extra...)
}

// outgoingWord is what the outgoing key is called in a sentence.
func (r *runner) outgoingWord() string {
	if r.backwards() {
		return "new"
	}
	return "old"
}

// listed names keys in plain text.
func (r *runner) listed(names []string) string { return strings.Join(r.asListed(names), ", ") }

// asListed adds to the names of outgoing keys how the provider's console lists them.
func (r *runner) asListed(names []string) []string {
	var all []string
	for _, name := range names {
		for _, o := range r.outgoing() {
			if o.Name() == name {
				name = asListed(o)
				break
			}
		}
		all = append(all, name)
	}
	return all
}

// asListed is the name of a key, and how the provider's console lists it, in plain text.
func asListed(o activities.Ref) string {
	if o.Shown == "" {
		return o.Name()
	}
	return o.Name() + " (" + o.Shown + ")"
}
