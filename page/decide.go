package page

import (
	"context"
	"errors"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// The bounds of what an operator says; the stores have the same.
const (
	maxReason = 4 << 10 // bytes
	maxUser   = 512
	maxForm   = 4 << 20 // bytes of a form, the result included
)

// choice is something that can be decided about a record.
type choice struct {
	Name   string // in the URL and in the form
	Title  string
	Said   string // the title within a sentence
	Means  string
	Sure   string // what the operator has to confirm
	Danger bool   // the effect may happen again
	to     store.State
}

var choices = []choice{
	{Name: "done", Title: "It took effect", Said: "it took effect", Means: "Calls of the key get the result that you give.",
		Sure: "I have found the effect at the callee.", to: store.Succeeded},
	{Name: "failed", Title: "It did not take effect: end it with an error", Said: "it did not take effect, end it with an error", Means: "Calls of the key end with the error that you give.",
		Sure: "I have looked at the callee: it did not take effect.", to: store.Failed},
	{Name: "not_done", Title: "It did not take effect: run it again", Said: "it did not take effect, run it again", Means: "The next call of the key runs.", Danger: true,
		Sure: "I have looked at the callee: it did not take effect, or was undone, and its last worker will do nothing more.", to: store.Tombstone},
	{Name: "forget", Title: "Forget the record", Said: "forget the record", Means: "Nothing is left of it, and the next call of the key runs.", Danger: true,
		Sure: "The effect may happen again, or no call of the key will come.", to: store.Absent},
}

// choicesFor returns what can be decided about a record.
func choicesFor(r store.Record) []choice {
	switch r.State {
	case store.InDoubt, store.Pending:
		return choices[:3]
	case store.Succeeded, store.Failed:
		return choices
	case store.Tombstone:
		return choices[3:]
	}
	return nil
}

// confirmation is what the page asks before a decision.
type confirmation struct {
	sheet
	Choice   choice
	Risk     string
	User     string
	Revision uint64
	Fence    uint64
	Was      string // the state that was shown
	Problem  string // why the decision was not taken
	Why      string // what was typed before
	Result   string
	Error    string
}

// confirm asks about a decision.
func (h *Handler) confirm(w http.ResponseWriter, r *http.Request, record store.Record, name string) {
	user, ok := h.user(w, r)
	if !ok {
		return
	}
	c, possible := h.confirmation(record, name)
	if !possible {
		h.say(w, r, http.StatusBadRequest, "Not possible", "This cannot be decided about a record that is "+ops.StateName(record.State)+".")
		return
	}
	c.User = ops.Text(user, maxUser)
	h.send(w, r, http.StatusOK, "decide", c.Choice.Title, c)
}

func (h *Handler) confirmation(record store.Record, name string) (confirmation, bool) {
	for _, c := range choicesFor(record) {
		if c.Name == name {
			return confirmation{
				sheet: h.sheet(record), Choice: c, Risk: ops.Risk(record, c.to),
				Revision: record.Revision, Fence: record.Fence, Was: string(record.State),
			}, true
		}
	}
	return confirmation{}, false
}

// user returns who sends the request. Without an answer it answers the request.
func (h *Handler) user(w http.ResponseWriter, r *http.Request) (string, bool) {
	if h.options.Resolver == nil {
		h.say(w, r, http.StatusForbidden, "Read-only", "Nothing can be decided on this page. Use the command.")
		return "", false
	}
	user, err := h.options.User(r)
	if err != nil {
		h.log(r, err)
	}
	if user = strings.TrimSpace(user); err != nil || user == "" || len(user) > maxUser {
		h.say(w, r, http.StatusForbidden, "Who are you?", "A decision has an author, and this request does not say who sends it. Log in, then try again.")
		return "", false
	}
	return user, true
}

// post takes a decision.
func (h *Handler) post(w http.ResponseWriter, r *http.Request) {
	digest := path.Base(r.URL.Path)
	if h.options.Resolver == nil || len(digest) != digestSize || !isDigest(digest) {
		h.user(w, r) // which refuses a page that is read-only
		if h.options.Resolver != nil {
			h.say(w, r, http.StatusNotFound, "Not found", "There is no such page.")
		}
		return
	}
	// A browser names the origin of a form in one of these; what names none is no browser.
	if r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "" || h.origins.Check(r) != nil {
		h.say(w, r, http.StatusForbidden, "From elsewhere", "A decision is taken on this page only, and this form was sent from another one. A proxy in front of the page must leave the Host as it is.")
		return
	}
	user, ok := h.user(w, r)
	if !ok {
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		h.say(w, r, http.StatusBadRequest, "Not a form", "The form cannot be read, or is too long.")
		return
	}
	// What was begun is written down, although the browser may not wait for it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 3*h.options.Timeout)
	defer cancel()
	reading, cancelReading := context.WithTimeout(ctx, h.options.Timeout)
	defer cancelReading()
	if record, ok := h.find(reading, w, r, digest); ok {
		h.decide(ctx, w, r, record, user)
	}
}

// decide takes a decision about the record if it is as it was shown.
func (h *Handler) decide(ctx context.Context, w http.ResponseWriter, r *http.Request, record store.Record, user string) {
	if !isAsShown(r, record) {
		h.changed(w, r, record)
		return
	}
	c, possible := h.confirmation(record, r.PostForm.Get("decide"))
	if !possible {
		h.say(w, r, http.StatusBadRequest, "Not possible", "This cannot be decided about a record that is "+ops.StateName(record.State)+".")
		return
	}
	c.User = ops.Text(user, maxUser)
	c.Why, c.Result, c.Error = strings.TrimSpace(r.PostForm.Get("why")), strings.TrimSpace(r.PostForm.Get("result")), strings.TrimSpace(r.PostForm.Get("error"))
	finding, problem := c.finding(r.PostForm.Get("sure") != "")
	if problem != "" {
		h.again(w, r, c, problem)
		return
	}
	now, err := h.write(ctx, record, c.Choice, finding, resolve.Decision{By: user, Why: c.Why})
	h.audit(r, c.Choice, record, now, user, c.Why, err)
	switch {
	case err == nil:
		redirect(w, keys.Downstream(record.Key)+"?recorded="+strconv.FormatUint(now.Revision, 10))
	case errors.Is(err, store.ErrMoved):
		if now, ok := h.find(ctx, w, r, keys.Downstream(record.Key)); ok {
			h.changed(w, r, now)
		}
	case ctx.Err() != nil || isSlow(err):
		h.say(w, r, http.StatusServiceUnavailable, "Nobody knows whether it was recorded",
			"The store has not answered in time. Look at the record again: its history says whether your decision is there.")
	default:
		h.again(w, r, c, "Nothing was recorded. "+withoutUser(err))
	}
}

// write has the resolver write a decision.
func (h *Handler) write(ctx context.Context, record store.Record, c choice, f resolve.Finding, d resolve.Decision) (store.Record, error) {
	if c.to == store.Absent {
		return h.options.Resolver.Forget(ctx, record, d)
	}
	return h.options.Resolver.Resolve(ctx, record, f, d)
}

// finding is what the form says, or what is wrong with it.
func (c confirmation) finding(sure bool) (f resolve.Finding, problem string) {
	switch {
	case c.Why == "":
		return f, "Say why: it is kept in the record."
	case len(c.Why) > maxReason:
		return f, "The reason is too long: it has more than " + grouped(maxReason) + " bytes."
	case !sure:
		return f, "Confirm that you have found out."
	}
	switch c.Choice.to {
	case store.Succeeded:
		if c.Result == "" {
			return resolve.AsDone(nil), ""
		}
		return resolve.AsDone(resolve.JSON(c.Result)), ""
	case store.Failed:
		if c.Error == "" {
			return f, "Say with which error calls of the key end."
		}
		return resolve.AsFailed(errors.New(c.Error)), ""
	}
	return resolve.AsNotDone(), ""
}

// isAsShown reports whether a record is the one that the form was about.
func isAsShown(r *http.Request, record store.Record) bool {
	return r.PostForm.Get("state") == string(record.State) &&
		r.PostForm.Get("revision") == strconv.FormatUint(record.Revision, 10) &&
		r.PostForm.Get("fence") == strconv.FormatUint(record.Fence, 10)
}

// changed shows what has become of the record meanwhile.
func (h *Handler) changed(w http.ResponseWriter, r *http.Request, record store.Record) {
	s := h.sheet(record)
	s.Trouble = true
	s.Notice = "The record has changed since you looked at it. Nothing of yours was recorded. This is how it is now."
	h.send(w, r, http.StatusConflict, "record", s.Activity, s)
}

// again asks once more, with what was typed.
func (h *Handler) again(w http.ResponseWriter, r *http.Request, c confirmation, problem string) {
	c.Problem = problem
	h.send(w, r, http.StatusUnprocessableEntity, "decide", c.Choice.Title, c)
}

// audit writes down a decision, and one that was not taken.
func (h *Handler) audit(r *http.Request, c choice, before, after store.Record, user, why string, err error) {
	e := ops.NewEntry(actionOf(c, before), before, after, user, why)
	attributes := []any{
		"action", e.Action, "digest", e.Digest, "activity", e.Activity, "namespace", e.Namespace, "workflow", e.WorkflowID, "run", e.RunID,
		"from", e.From, "to", e.To, "revision", e.Revision, "by", e.By, "why", e.Why,
	}
	if err != nil {
		h.options.Logger.WarnContext(r.Context(), "atmostonce: not decided", append(attributes, "error", err.Error())...)
		return
	}
	h.options.Logger.InfoContext(r.Context(), "atmostonce: decided", attributes...)
}

// actionOf is what the command calls a decision.
func actionOf(c choice, r store.Record) string {
	switch {
	case c.to == store.Absent:
		return "forget"
	case r.State.IsOpen():
		return "resolve"
	case c.to == store.Tombstone:
		return "reopen"
	}
	return "correct"
}

// credentials are what a URL has before its host.
var credentials = regexp.MustCompile(`//[^/\s@]*@`)

// withoutUser is an error's text without the credentials of URLs.
func withoutUser(err error) string {
	return full(credentials.ReplaceAllString(err.Error(), "//…@"))
}
