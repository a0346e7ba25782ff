package signed_test

import (
	"crypto/ed25519"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/signed"
)

// fixed is a key that is the same in every run, so that what fuzzing found stays found.
func fixed(t testing.TB) ssh.Signer {
	s, err := ssh.NewSignerFromSigner(ed25519.NewKeyFromSeed([]byte("a seed of exactly thirty-two byt")))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Whatever is sent as a signature is read or refused; what is read survives being written and read again, and counts
// only if it is one that the operator made.
func FuzzASignatureIsReadOrRefused(f *testing.F) {
	s := fixed(f)
	m := by("alice")
	good, err := signed.Sign(s, signed.Text(question(), m))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(signed.Armor(good))
	f.Add(good[:len(good)-4])
	f.Add("U1NIU0lHAAAAAQ==")
	f.Add("-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----")
	operators := []rotation.Operator{{Name: "alice", Key: signed.Line(s.PublicKey())}}
	f.Fuzz(func(t *testing.T, text string) {
		m := by("alice")
		m.Signature = text
		_, counts := signed.Check(question(), m, operators, nil, m.SignedAt)
		read, err := signed.Read(text)
		if err != nil {
			if counts == nil || strings.TrimSpace(err.Error()) == "" {
				t.Fatalf("%q cannot be read (%v) and counts all the same", text, err)
			}
			return
		}
		again, err := signed.Read(read.String())
		if err != nil || again.String() != read.String() {
			t.Fatalf("%q does not survive being written: %v", text, err)
		}
		// Ed25519 signatures are unique: another one that counts would be a forgery.
		if counts == nil && read.String() != good {
			t.Fatalf("%q counts, and the operator did not make it", text)
		}
	})
}

func FuzzAPublicKeyIsReadOrRefused(f *testing.F) {
	f.Add(signed.Line(fixed(f).PublicKey()) + " alice@laptop")
	f.Add("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAQD")
	f.Add("ecdsa-sha2-nistp256 AAAA")
	f.Fuzz(func(t *testing.T, line string) {
		key, err := signed.ParseKey(line)
		if err != nil {
			return
		}
		again, err := signed.ParseKey(signed.Line(key))
		if err != nil || signed.Line(again) != signed.Line(key) {
			t.Fatalf("%q does not survive being written: %v", line, err)
		}
	})
}
