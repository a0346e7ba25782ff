package signed_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/signed"
)

var asked = time.Date(2026, 11, 23, 4, 0, 0, 123, time.UTC)

func question() rotation.Question {
	return rotation.Question{
		Namespace: "rekey", Workflow: "rotate/openai-prod", Rotation: "k3f9x2ab", Key: "openai-prod", Number: 3, Kind: rotation.Approve,
		Subject: "revoke-policy", Text: "The policy wants a person to approve the revoke.\nThe old key is <unused>.", Effect: "revoke the old key",
		Revokes: []string{"0a1b2c3d4e5f"}, Asked: asked,
	}
}

func signer(t *testing.T, private crypto.Signer, err error) ssh.Signer {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func edwards(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	return signer(t, private, err)
}

func operator(name string, s ssh.Signer) rotation.Operator {
	return rotation.Operator{Name: name, Key: signed.Line(s.PublicKey())}
}

// by is a message of an operator, a minute after the question.
func by(name string) rotation.DecisionMessage {
	return rotation.DecisionMessage{ID: "1", By: name, Why: "dashboards show no use", SignedAt: asked.Add(time.Minute)}
}

func TestWithoutIDsToRevokeTheTextSaysAnEmptyList(t *testing.T) {
	for name, none := range map[string][]string{"nil": nil, "empty": {}} {
		q := question()
		q.Revokes = none
		if text := string(signed.Text(q, by("alice"))); !strings.Contains(text, "\nrevokes: []\n") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// sign signs a message on a question.
func sign(t *testing.T, s ssh.Signer, q rotation.Question, m rotation.DecisionMessage) rotation.DecisionMessage {
	t.Helper()
	var err error
	if m.Signature, err = signed.Sign(s, signed.Text(q, m)); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestTheTextThatIsSignedIsOneLineForEachFieldAndAlwaysTheSame(t *testing.T) {
	const want = `rekey decision 2
decision: "approve"
key: "openai-prod"
revokes: ["0a1b2c3d4e5f"]
namespace: "rekey"
workflow: "rotate/openai-prod"
rotation: "k3f9x2ab"
number: 3
subject: "revoke-policy"
question: "The policy wants a person to approve the revoke.\nThe old key is <unused>."
effect: "revoke the old key"
asked: "2026-11-23T04:00:00.000000123Z"
by: "alice"
why: "dashboards show no use"
id: "1"
signed: "2026-11-23T04:01:00.000000123Z"
`
	m := by("alice")
	m.SignedAt = m.SignedAt.In(time.FixedZone("CET", 3600)) // the same moment
	if got := string(signed.Text(question(), m)); got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestKeysOfEveryKindThatCountsCanSign(t *testing.T) {
	for name, make := range map[string]func() (crypto.Signer, error){
		"ed25519":   func() (crypto.Signer, error) { _, k, err := ed25519.GenerateKey(rand.Reader); return k, err },
		"ecdsa 256": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
		"ecdsa 521": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P521(), rand.Reader) },
		"RSA 3072":  func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 3072) },
	} {
		t.Run(name, func(t *testing.T) {
			private, err := make()
			s := signer(t, private, err)
			m := sign(t, s, question(), by("alice"))
			got, err := signed.Check(question(), m, []rotation.Operator{operator("alice", s)}, nil, m.SignedAt)
			if want := (rotation.Signer{Operator: "alice", Fingerprint: ssh.FingerprintSHA256(s.PublicKey())}); err != nil || got != want {
				t.Errorf("got %v, %v, want %v", got, err, want)
			}
		})
	}
}

func TestASignatureThatDoesNotCountIsRefusedWithWhatToDo(t *testing.T) {
	alice, bob, mallory := edwards(t), edwards(t), edwards(t)
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	weak := signer(t, small, err)
	operators := []rotation.Operator{operator("alice", alice), operator("bob", bob), operator("weak", weak)}
	// other is alice's signature on another question.
	other := func(change func(*rotation.Question)) rotation.DecisionMessage {
		q := question()
		change(&q)
		return sign(t, alice, q, by("alice"))
	}
	// altered is alice's message, changed after it was signed.
	altered := func(change func(*rotation.DecisionMessage)) rotation.DecisionMessage {
		m := sign(t, alice, question(), by("alice"))
		change(&m)
		return m
	}
	early, late := by("alice"), by("alice")
	early.SignedAt, late.SignedAt = asked.Add(-time.Hour), asked.Add(2*time.Hour)
	const run = "An operator runs: rekey approve openai-prod"
	for sentence, c := range map[string]struct {
		m    rotation.DecisionMessage
		want []string
	}{
		"no signature":                   {by("alice"), []string{"needs the signatures of 2 different operators", "Temporal UI cannot sign", run}},
		"not the base64 form":            {altered(func(m *rotation.DecisionMessage) { m.Signature = "yes!" }), []string{"no SSH signature that counts", run}},
		"a signature of something else":  {altered(func(m *rotation.DecisionMessage) { m.Signature = "aGVsbG8=" }), []string{"not an SSHSIG of version 1"}},
		"a frame without an end":         {altered(func(m *rotation.DecisionMessage) { m.Signature = "-----BEGIN SSH SIGNATURE-----\nU1NIU0lH" }), []string{"does not end with"}},
		"a signature cut short":          {altered(func(m *rotation.DecisionMessage) { m.Signature = m.Signature[:40] }), []string{"not an SSHSIG of version 1"}},
		"somebody who is no operator":    {sign(t, mallory, question(), by("alice")), []string{ssh.FingerprintSHA256(mallory.PublicKey()) + " belongs to no operator", "alice, bob", run}},
		"another namespace":              {sign(t, alice, question(), by("alice")), nil}, // replaced below
		"in another's name":              {sign(t, bob, question(), by("alice")), []string{`the key is bob's, but the message says it is by "alice"`}},
		"an RSA key that is too small":   {rotation.DecisionMessage{By: "weak", SignedAt: asked, Signature: envelopeBy(t, weak, "rekey", question(), by("weak"))}, []string{"an RSA key of 2048 bits does not count"}},
		"an earlier question":            {other(func(q *rotation.Question) { q.Number-- }), []string{"not over this message and the present question (number 3 of rotation k3f9x2ab)", run}},
		"the same number asked earlier":  {other(func(q *rotation.Question) { q.Asked = q.Asked.Add(-time.Second) }), []string{"not over this message"}},
		"other words":                    {other(func(q *rotation.Question) { q.Text += " Really." }), []string{"not over this message"}},
		"another effect":                 {other(func(q *rotation.Question) { q.Effect = "keep it" }), []string{"not over this message"}},
		"another subject":                {other(func(q *rotation.Question) { q.Subject = "not-cleared" }), []string{"not over this message"}},
		"another rotation":               {other(func(q *rotation.Question) { q.Rotation = "aaaaaaaa" }), []string{"not over this message"}},
		"another key":                    {other(func(q *rotation.Question) { q.Key = "openai-dev" }), []string{"not over this message"}},
		"another workflow":               {other(func(q *rotation.Question) { q.Workflow = "rotate/openai-dev" }), []string{"not over this message"}},
		"another namespace of Temporal":  {other(func(q *rotation.Question) { q.Namespace = "staging" }), []string{"not over this message"}},
		"another kind of decision":       {other(func(q *rotation.Question) { q.Kind = rotation.FinishGrace }), []string{"not over this message"}},
		"other keys to revoke":           {other(func(q *rotation.Question) { q.Revokes = []string{"0a1b2c3d4e5f", "ffffffffffff"} }), []string{"not over this message"}},
		"another reason than was signed": {altered(func(m *rotation.DecisionMessage) { m.Why = "because" }), []string{"not over this message"}},
		"another id than was signed":     {altered(func(m *rotation.DecisionMessage) { m.ID = "2" }), []string{"not over this message"}},
		"another time than was signed":   {altered(func(m *rotation.DecisionMessage) { m.SignedAt = m.SignedAt.Add(time.Second) }), []string{"not over this message"}},
		"signed before the question":     {sign(t, alice, question(), early), []string{"before the present question was asked", run}},
		"signed in the future":           {sign(t, alice, question(), late), []string{"is in the future"}},
		"the same operator once more":    {sign(t, bob, question(), by("bob")), []string{"bob has signed this already; another operator has to: rekey approve openai-prod"}},
		"a frame with something after it": {altered(func(m *rotation.DecisionMessage) {
			m.Signature = "-----BEGIN SSH SIGNATURE-----\n" + m.Signature + "\n-----END SSH SIGNATURE-----\nsk-more"
		}), []string{"does not end with"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			if sentence == "another namespace" {
				c.m.Signature, c.want = envelopeBy(t, alice, "git", question(), c.m), []string{`made for "git" and not for "rekey" (ssh-keygen -Y sign -n rekey)`}
			}
			before := signed.Count(question(), []rotation.Decision{{Kind: rotation.Approve, DecisionMessage: sign(t, bob, question(), by("bob"))}}, operators)
			if len(before) != 1 {
				t.Fatal("bob's own signature does not count")
			}
			_, err := signed.Check(question(), c.m, operators, before, asked.Add(time.Hour))
			if r, ok := errors.AsType[*rotation.RejectedDecision](err); !ok {
				t.Fatalf("got %v, want a refusal", err)
			} else {
				for _, want := range c.want {
					if !strings.Contains(r.Message, want) {
						t.Errorf("%q does not say %q", r.Message, want)
					}
				}
			}
		})
	}
	// What all of these were made from counts.
	if _, err := signed.Check(question(), sign(t, alice, question(), by("alice")), operators, nil, asked.Add(time.Hour)); err != nil {
		t.Errorf("alice's own signature is refused: %v", err)
	}
}

// envelopeBy is a signature as a program would make it that does not care what counts.
func envelopeBy(t *testing.T, s ssh.Signer, namespace string, q rotation.Question, m rotation.DecisionMessage) string {
	t.Helper()
	h := crypto.SHA512.New()
	h.Write(signed.Text(q, m))
	frame := append([]byte("SSHSIG"), ssh.Marshal(struct{ Namespace, Reserved, Hash, Sum string }{namespace, "", "sha512", string(h.Sum(nil))})...)
	algorithm := s.PublicKey().Type()
	if algorithm == ssh.KeyAlgoRSA {
		algorithm = ssh.KeyAlgoRSASHA512
	}
	made, err := s.(ssh.AlgorithmSigner).SignWithAlgorithm(rand.Reader, frame, algorithm)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(append([]byte("SSHSIG"), ssh.Marshal(struct {
		Version                                   uint32
		Key, Namespace, Reserved, Hash, Signature string
	}{1, string(s.PublicKey().Marshal()), namespace, "", "sha512", string(ssh.Marshal(made))})...))
}

func TestOnlyDifferentOperatorsOfTheListAreCounted(t *testing.T) {
	alice, bob, carol := edwards(t), edwards(t), edwards(t)
	all := []rotation.Operator{operator("alice", alice), operator("bob", bob), operator("carol", carol)}
	decided := func(s ssh.Signer, name, id string) rotation.Decision {
		m := by(name)
		m.ID = id
		return rotation.Decision{Kind: rotation.Approve, DecisionMessage: sign(t, s, question(), m), Signer: &rotation.Signer{Operator: "made up"}}
	}
	three := []rotation.Decision{decided(alice, "alice", "1"), decided(alice, "alice", "2"), decided(bob, "bob", "3")}
	forged := decided(carol, "bob", "4")
	forged.Signer = &rotation.Signer{Operator: "bob", Fingerprint: "SHA256:what is written here is not believed"}
	otherKind := decided(bob, "bob", "5")
	otherKind.Kind = rotation.FinishGrace
	for sentence, c := range map[string]struct {
		decisions []rotation.Decision
		operators []rotation.Operator
		want      []string
	}{
		"one of them twice":          {three, all, []string{"alice", "bob"}},
		"one is no operator anymore": {three, all[1:], []string{"bob"}},
		"nobody is an operator":      {three, nil, nil},
		"a record that is made up":   {[]rotation.Decision{three[0], forged, {Kind: rotation.Approve, Signer: &rotation.Signer{Operator: "bob"}}}, all, []string{"alice"}},
		"another kind of decision":   {[]rotation.Decision{three[0], otherKind}, all, []string{"alice"}},
	} {
		var got []string
		for _, d := range signed.Count(question(), c.decisions, c.operators) {
			got = append(got, d.Signer.Operator)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", sentence, got, c.want)
		}
	}
}

func TestAPublicKeyThatDoesNotCountIsRefusedWithWhatWasExpected(t *testing.T) {
	good := signed.Line(edwards(t).PublicKey())
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	weak := signer(t, small, err)
	cert := &ssh.Certificate{Key: edwards(t).PublicKey(), CertType: ssh.UserCert, ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, edwards(t)); err != nil {
		t.Fatal(err)
	}
	for sentence, c := range map[string]struct{ line, want string }{
		"nothing":                 {"", "expected one line like"},
		"the base64 alone":        {strings.Fields(good)[1], "expected one line like"},
		"two lines":               {good + "\n" + good, "expected one line like"},
		"a fingerprint":           {"ssh-ed25519 SHA256:abc", "not the base64 form of a public key"},
		"cut off":                 {good[:len(good)-8], "no public SSH key"},
		"another type before it":  {strings.Replace(good, "ssh-ed25519", "ssh-rsa", 1), "the line says ssh-rsa, but the key in it is of type ssh-ed25519"},
		"options of sshd":         {"no-touch-required " + good, "not the base64 form"},
		"an RSA key of 2048 bits": {signed.Line(weak.PublicKey()), "an RSA key of 2048 bits does not count"},
		"a certificate":           {signed.Line(cert), "keys of type ssh-ed25519-cert-v01@openssh.com do not count"},
	} {
		if _, err := signed.ParseKey(c.line); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", sentence, err, c.want)
		}
	}
	if _, err := signed.ParseKey(good + " alice@laptop"); err != nil {
		t.Errorf("a line of a .pub file: %v", err)
	}
	if _, err := signed.Sign(weak, []byte("x")); err == nil {
		t.Error("an RSA key of 2048 bits has signed")
	}
}
