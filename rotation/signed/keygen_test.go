package signed_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/signed"
	"golang.org/x/crypto/ssh"
)

// keygen runs OpenSSH's own ssh-keygen.
func keygen(t *testing.T, stdin string, args ...string) {
	t.Helper()
	program, err := exec.LookPath("ssh-keygen")
	if err != nil {
		t.Skip("this machine has no ssh-keygen, so what it writes and reads cannot be tried")
	}
	cmd := exec.Command(program, args...)
	if stdin != "" {
		f, err := os.Open(stdin)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.Stdin = f
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen %v: %v\n%s", args, err, out)
	}
}

func TestWhatTheStockSSHKeygenSignsCountsAndItVerifiesWhatRekeySigns(t *testing.T) {
	for name, kind := range map[string][]string{
		"ed25519": {"-t", "ed25519"}, "ecdsa": {"-t", "ecdsa", "-b", "384"}, "RSA": {"-t", "rsa", "-b", "3072"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			key, text := filepath.Join(dir, "key"), filepath.Join(dir, "decision.txt")
			keygen(t, "", append(kind, "-q", "-N", "", "-C", "alice@laptop", "-f", key)...)
			m := by("alice")
			if err := os.WriteFile(text, signed.Text(question(), m), 0o600); err != nil {
				t.Fatal(err)
			}
			line := string(read(t, key+".pub"))
			public, err := signed.ParseKey(line[:len(line)-1])
			if err != nil {
				t.Fatal(err)
			}
			operators := []rotation.Operator{{Name: "alice", Key: signed.Line(public)}}

			keygen(t, "", "-q", "-Y", "sign", "-n", signed.Namespace, "-f", key, text)
			m.Signature = string(read(t, text+".sig"))
			if _, err := signed.Check(question(), m, operators, nil, m.SignedAt); err != nil {
				t.Errorf("what ssh-keygen signed: %v", err)
			}

			private, err := ssh.ParsePrivateKey(read(t, key))
			if err != nil {
				t.Fatal(err)
			}
			made, err := signed.Sign(private, signed.Text(question(), m))
			if err != nil {
				t.Fatal(err)
			}
			allowed := filepath.Join(dir, "allowed")
			if err := os.WriteFile(allowed, []byte("alice "+line), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(text+".sig", []byte(signed.Armor(made)), 0o600); err != nil {
				t.Fatal(err)
			}
			keygen(t, text, "-Y", "verify", "-f", allowed, "-I", "alice", "-n", signed.Namespace, "-s", text+".sig")
		})
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
