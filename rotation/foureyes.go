package rotation

import (
	"slices"
	"time"
)

// Eyes is how many different operators sign a decision under four eyes.
const Eyes = 2

// Operator is a person whose signature counts under four eyes.
type Operator struct {
	Name string `json:"name"`
	// Key is the operator's public SSH key: its type and its base64, as in authorized_keys, without a comment.
	Key string `json:"key"`
}

// Signer is the operator who signed a decision.
type Signer struct {
	Operator string `json:"operator"`
	// Fingerprint is that of the operator's public key, as ssh-keygen -l shows it: SHA256:…
	Fingerprint string `json:"fingerprint"`
}

// Question is what operators sign. A signature counts for this question alone: another rotation, another key, the same
// question asked again, all have another one.
type Question struct {
	// Namespace and Workflow are those of the rotation in Temporal.
	Namespace string `json:"namespace"`
	Workflow  string `json:"workflow"`
	Rotation  string `json:"rotation"`
	Key       string `json:"key"`
	// Number counts what this rotation has asked.
	Number int `json:"number"`
	// DecisionKind is the decision that is signed: Approve or FinishGrace.
	Kind DecisionKind `json:"kind"`
	// Subject names the subject of the question, Text is the question itself, Effect what a yes does.
	Subject string `json:"subject"`
	Text    string `json:"text"`
	Effect  string `json:"effect"`
	// Revokes names the keys that the rotation takes away in the end, by the provider's id or by fingerprint.
	Revokes []string  `json:"revokes"`
	Asked   time.Time `json:"asked"`
}

// Signing is how far a question has come that operators sign.
type Signing struct {
	Question
	// Needed is how many different operators have to sign.
	Needed int `json:"needed"`
	// Signed are the decisions that were signed so far, oldest first.
	Signed []Decision `json:"signed,omitempty"`
}

// Has reports whether an operator has signed.
func (s Signing) Has(operator string) bool {
	return slices.ContainsFunc(s.Signed, func(d Decision) bool { return d.Signer != nil && d.Signer.Operator == operator })
}

// Names are those of the operators who have signed.
func (s Signing) Names() []string {
	var names []string
	for _, d := range s.Signed {
		if d.Signer != nil {
			names = append(names, d.Signer.Operator)
		}
	}
	return names
}

// Approval is a question and the signed decisions that answer it.
type Approval struct {
	Question  Question   `json:"question"`
	Decisions []Decision `json:"decisions"`
}

// Ask is a question that a step puts to a person. An approval counts for the kind and the ids, whatever the text says.
type Ask struct {
	// Kind is a short name of what it is about.
	Kind string `json:"kind"`
	// About are the ids that it names: of keys, versions, installations, rotations.
	About []string `json:"about,omitempty"`
	// Text is for people.
	Text string `json:"text,omitempty"`
}

// In reports whether an approval among granted answers the question: of the same kind, about at least the same ids.
func (a Ask) In(granted []Ask) bool {
	return slices.ContainsFunc(granted, func(g Ask) bool {
		return g.Kind == a.Kind && !slices.ContainsFunc(a.About, func(id string) bool { return !slices.Contains(g.About, id) })
	})
}
