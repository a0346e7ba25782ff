package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/internal/testenv"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/signed"
	"github.com/rekeyhq/rekey/workflows"
)

const passphrase = "correct horse"

// person is somebody with an SSH key: in a file, in a file with a passphrase, and in an agent of their own.
type person struct {
	private      ed25519.PrivateKey
	line         string
	file, locked string
	socket       string
}

func newPerson(t *testing.T, name string) *person {
	t.Helper()
	dir := t.TempDir()
	p := &person{file: filepath.Join(dir, name), locked: filepath.Join(dir, name+"-locked")}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.private = private
	signer, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	p.line = signed.Line(signer.PublicKey())
	open, err := ssh.MarshalPrivateKey(private, name)
	if err != nil {
		t.Fatal(err)
	}
	locked, err := ssh.MarshalPrivateKeyWithPassphrase(private, name, []byte(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string][]byte{p.file: pem.EncodeToMemory(open), p.locked: pem.EncodeToMemory(locked), p.file + ".pub": []byte(p.line + " " + name + "\n")} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.socket = serveAgent(t, p)
	return p
}

// serveAgent serves an agent with the keys of some people on a socket, as ssh-agent does.
func serveAgent(t *testing.T, people ...*person) string {
	t.Helper()
	keys := agent.NewKeyring()
	for _, p := range people {
		if err := keys.Add(agent.AddedKey{PrivateKey: p.private}); err != nil {
			t.Fatal(err)
		}
	}
	// Names of sockets are short; those of a test's folder may not be.
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(keys, conn) }()
		}
	}()
	return l.Addr().String()
}

func TestTheStockSSHAgentSigns(t *testing.T) {
	for _, program := range []string{"ssh-agent", "ssh-add", "ssh-keygen"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("this machine has no %s, so OpenSSH's own agent cannot be tried", program)
		}
	}
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	serve := exec.Command("ssh-agent", "-D", "-a", socket)
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = serve.Process.Kill(); _ = serve.Wait() })
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal("the agent does not come up")
		}
	}
	t.Setenv("SSH_AUTH_SOCK", socket)
	for _, kind := range [][]string{{"-t", "ed25519"}, {"-t", "ecdsa"}, {"-t", "rsa", "-b", "3072"}} {
		file := filepath.Join(dir, kind[1])
		for _, command := range [][]string{append([]string{"ssh-keygen", "-q", "-N", "", "-f", file}, kind...), {"ssh-add", "-q", file}} {
			if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", command, err, out)
			}
		}
		keys, done, err := new(app).fromFile(t.Context(), file+".pub")
		if err != nil {
			t.Fatal(err)
		}
		text, err := signed.Sign(keys[0], []byte("a text"))
		if err != nil {
			t.Fatalf("%s: %v", kind[1], err)
		}
		if s, err := signed.Read(text); err != nil || !s.Fits([]byte("a text")) || s.Fits([]byte("another text")) {
			t.Errorf("%s: what the agent signed does not fit: %v", kind[1], err)
		}
		done()
	}
}

// fourEyesFixture is a fixture with a Google key under four eyes, whose grace period is an hour.
func fourEyesFixture(t *testing.T, people map[string]*person) *fixture {
	t.Helper()
	o := fast(t)
	o.Policy = []string{"grace: 1h", "soak: 0s", "quiet: 0s", "recheck: 10m", "step_timeout: 1m", "four_eyes: true"}
	for _, name := range []string{"alice", "bob"} {
		o.Operators = append(o.Operators, fmt.Sprintf("{name: %s, ssh_key: %q}", name, people[name].line))
	}
	// What is signed names the namespace, and the corpus of tests/replay has it with this one.
	s := newFixtureWith(t, testenv.Options{TemporalOptions: testenv.TemporalOptions{Own: &devserver.Options{}}, SimOptions: testenv.SimOptions{Scenario: o, Keys: func(c *scenario.Scenario) error {
		_, err := c.Google("ci", scenario.Alias)
		return err
	}}})
	s.StartWorkers()
	return s
}

func TestTwoOperatorsSignWithTheirSSHKeysOnTheCommandLine(t *testing.T) {
	t.Parallel()
	people := map[string]*person{"alice": newPerson(t, "alice"), "bob": newPerson(t, "bob"), "mallory": newPerson(t, "mallory")}
	alice, bob := people["alice"], people["bob"]
	s := fourEyesFixture(t, people)
	says := func(want int, stdin, words string, args ...string) {
		t.Helper()
		if out := s.rekey(want, stdin, args...); !strings.Contains(out, words) {
			t.Errorf("rekey %s does not say %q:\n%s", strings.Join(args, " "), words, out)
		}
	}
	sock := func(path string) { s.environment = []string{"SSH_AUTH_SOCK=" + path} }
	sock("")
	s.rekey(0, "", "rotate", "ci")
	oldID := s.AwaitPhase("ci", rotation.Grace).Signing.Revokes[0]
	finish := []string{"finish-grace", "ci", "--why", "all restarted"}

	says(2, "", "no SSH agent to sign with: SSH_AUTH_SOCK is not set", finish...)
	sock(filepath.Join(t.TempDir(), "gone"))
	says(2, "", "the SSH agent does not answer", finish...)
	sock(people["mallory"].socket)
	says(2, "", "the SSH agent has no key of an operator", finish...)
	says(2, "", "rekey.yaml lists alice, bob", finish...)
	sock(serveAgent(t, alice, bob))
	says(2, "", "keys of several operators; choose one with --ssh-key", finish...)
	says(2, "", "does not have the key", append(finish, "--ssh-key", people["mallory"].file+".pub")...)
	says(2, "", "cannot be read", append(finish, "--ssh-key", alice.file+".none")...)
	says(2, "", "holds no private SSH key that can be used", append(finish, "--ssh-key", s.file)...)
	says(2, "", "locked with a passphrase, and there is no terminal", append(finish, "--ssh-key", alice.locked)...)
	says(2, "", `--by says "bob", but the key`, append(finish, "--ssh-key", alice.file, "--by", "bob")...)
	says(3, "no\n", "nothing was signed", append(finish, "--ssh-key", alice.file)...)
	says(3, "", "asks for no signature on approve: it is in grace, and takes extend-grace, finish-grace", "approve", "ci", "--sign", "--yes", "--ssh-key", alice.file)

	says(0, "yes\n", "finish-grace signed, 1 of 2. Another operator has to sign too: rekey finish-grace ci", append(finish, "--ssh-key", alice.file)...)
	says(3, "yes\n", "you (alice) have already signed this; another operator has to sign too: rekey finish-grace ci", append(finish, "--ssh-key", alice.file)...)
	sock(bob.socket)
	says(0, "", "finish-grace signed, 2 of 2. ci goes on.", append(finish, "--yes")...)

	st := s.AwaitPhase("ci", rotation.AwaitingApproval)
	says(0, "", "Signed: nobody yet", "status", "ci")
	// What the Temporal UI can send.
	if _, err := decide(context.Background(), s.Client, "ci", rotation.Approve, rotation.DecisionMessage{ID: "ui", By: "alice", Why: "w"}); err == nil || !strings.Contains(err.Error(), "The Temporal UI cannot sign. An operator runs: rekey approve ci") {
		t.Errorf("an approval without a signature: %v", err)
	}
	out := s.rekey(0, "yes\n", "approve", "ci", "--ssh-key", alice.file, "--sign")
	for _, want := range []string{"key        ci", "it says    " + st.Signing.Text, "yes means  these are revoked, for good: " + oldID, "revokes    " + oldID, "signed     0 of 2", "you        alice SHA256:", "Sign? Type yes to continue: ", "approve signed, 1 of 2"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not show %q:\n%s", want, out)
		}
	}
	says(0, "", "Signed: 1 of 2: alice", "status", "ci")
	sock(serveAgent(t, people["mallory"], alice, bob))
	s.environment = append(s.environment, "REKEY_SSH_KEY="+bob.file+".pub")
	says(0, "yes\n", "approve signed, 2 of 2. ci goes on.", "approve", "ci")

	res := s.Result("ci", "")
	var signers []string
	for _, d := range res.Decisions {
		if d.Signer != nil {
			signers = append(signers, string(d.Kind)+" "+d.Signer.Operator)
		}
	}
	if want := []string{"finish-grace alice", "finish-grace bob", "approve alice", "approve bob"}; res.Phase != rotation.Completed || !slices.Equal(signers, want) {
		t.Errorf("%s: %s, signed by %v, want %v", res.Phase, res.Outcome, signers, want)
	}
	if _, live := s.Cloud.LiveKeys()[oldID]; live {
		t.Error("the old key is live")
	}
	if _, err := s.Replayed(workflows.ID("ci"), "", "four-eyes"); err != nil {
		t.Error(err)
	}
	searched(t, s.said.String(), s.values()...)
}

func TestNothingIsSentUnsignedWhereItCannotBeSeenWhetherASignatureIsAskedFor(t *testing.T) {
	t.Parallel()
	alice := newPerson(t, "alice")
	s := fourEyesFixture(t, map[string]*person{"alice": alice, "bob": newPerson(t, "bob")})
	s.rekey(0, "", "rotate", "ci")
	s.AwaitPhase("ci", rotation.Grace)
	s.StopWorkers()
	if out := s.rekey(1, "yes\n", "finish-grace", "ci", "--why", "all restarted", "--ssh-key", alice.file); !strings.Contains(out, "nothing was sent: it could not be read whether the rotation of ci asks for a signature") {
		t.Errorf("it says:\n%s", out)
	}
}
