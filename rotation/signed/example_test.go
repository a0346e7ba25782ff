package signed_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/signed"
)

// An operator signs the text of a decision; it counts for this question, and for no other.
func ExampleCheck() {
	alice, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize)))
	if err != nil {
		panic(err)
	}
	operators := []rotation.Operator{{Name: "alice@example.com", Key: signed.Line(alice.PublicKey())}}
	asked := time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC)
	q := rotation.Question{
		Namespace: "default", Workflow: "rotate/openai-prod", Rotation: "k3f9x2ab", Key: "openai-prod", Number: 1, Kind: rotation.Approve,
		Subject: "use-unknown", Text: "Whether the old key is in use is not known.", Effect: "revoke the old key",
		Revokes: []string{"0a1b2c3d4e5f"}, Asked: asked,
	}
	m := rotation.DecisionMessage{ID: "1", By: "alice@example.com", Why: "dashboards show no use", SignedAt: asked.Add(time.Minute)}
	fmt.Printf("%s", signed.Text(q, m))
	if m.Signature, err = signed.Sign(alice, signed.Text(q, m)); err != nil {
		panic(err)
	}

	who, err := signed.Check(q, m, operators, nil, m.SignedAt)
	fmt.Println(who.Operator, err)
	q.Number = 2
	_, err = signed.Check(q, m, operators, nil, m.SignedAt)
	fmt.Println(err != nil)
	// Output:
	// rekey decision 2
	// decision: "approve"
	// key: "openai-prod"
	// revokes: ["0a1b2c3d4e5f"]
	// namespace: "default"
	// workflow: "rotate/openai-prod"
	// rotation: "k3f9x2ab"
	// number: 1
	// subject: "use-unknown"
	// question: "Whether the old key is in use is not known."
	// effect: "revoke the old key"
	// asked: "2026-11-28T09:00:00Z"
	// by: "alice@example.com"
	// why: "dashboards show no use"
	// id: "1"
	// signed: "2026-11-28T09:01:00Z"
	// alice@example.com <nil>
	// true
}
