package signed_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"io"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/signed"
)

// hardware signs as a hardware key does (sk-ssh-ed25519): it was touched, or not.
type hardware struct {
	private ed25519.PrivateKey
	touched bool
}

const application = "ssh:"

func (h hardware) PublicKey() ssh.PublicKey {
	key, err := ssh.ParsePublicKey(ssh.Marshal(struct {
		Type, Key, Application string
	}{ssh.KeyAlgoSKED25519, string(h.private.Public().(ed25519.PublicKey)), application}))
	if err != nil {
		panic(err)
	}
	return key
}

func (h hardware) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	state := struct {
		Flags   byte
		Counter uint32
	}{0, 7}
	if h.touched {
		state.Flags = 1
	}
	app, sum := sha256.Sum256([]byte(application)), sha256.Sum256(data)
	blob := append(append(app[:], ssh.Marshal(state)...), sum[:]...)
	return &ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(h.private, blob), Rest: ssh.Marshal(state)}, nil
}

func TestAHardwareKeyCountsWhenItWasTouched(t *testing.T) {
	key := hardware{private: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), touched: true}
	operators := []rotation.Operator{operator("alice", key)}
	m := sign(t, key, question(), by("alice"))
	if _, err := signed.Check(question(), m, operators, nil, m.SignedAt); err != nil {
		t.Error(err)
	}
	key.touched = false
	m = sign(t, key, question(), by("alice"))
	if _, err := signed.Check(question(), m, operators, nil, m.SignedAt); err == nil {
		t.Error("a signature counts that a program made without anybody's touch")
	}
}
