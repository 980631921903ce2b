package page

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"path"
	"strings"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
)

var (
	//go:embed html
	pages embed.FS
	//go:embed style.css
	style []byte
)

// Handler serves the page. It may be used by any number of requests at a time.
type Handler struct {
	options   Options
	reader    reader
	workflows link
	traces    link
	templates map[string]*template.Template
	origins   *http.CrossOriginProtection
}

// New returns a page about the records of a store. The error says what is wrong with the
// options.
func New(records store.Store, o Options) (*Handler, error) {
	if records == nil {
		return nil, errors.New("page: a page needs a store")
	}
	o, wrong := o.complete()
	workflows, wrongWorkflow := newLink("WorkflowURL", o.WorkflowURL, "workflow_id", "namespace", "run_id")
	traces, wrongTrace := newLink("TraceURL", o.TraceURL, "trace_id")
	templates, wrongPage := parse()
	if err := errors.Join(wrong, wrongWorkflow, wrongTrace, wrongPage); err != nil {
		return nil, errors.Join(errors.New("page: the options"), err)
	}
	return &Handler{o, newReader(records), workflows, traces, templates, http.NewCrossOriginProtection()}, nil
}

// parse reads the pages, each inside of the frame.
func parse() (map[string]*template.Template, error) {
	all := map[string]*template.Template{}
	for _, name := range []string{"list", "record", "decide", "message"} {
		t, err := template.New("").Funcs(template.FuncMap{"brief": brief}).ParseFS(pages, "html/frame.html", "html/"+name+".html")
		if err != nil {
			return nil, err
		}
		all[name] = t
	}
	return all, nil
}

// policy allows the page its style sheet and its forms, and nothing else.
const policy = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for name, value := range map[string]string{
		"Cache-Control":                "no-store",
		"Content-Security-Policy":      policy,
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Referrer-Policy":              "same-origin", // with no-referrer, browsers would hide the origin of a form, too
		"X-Content-Type-Options":       "nosniff",
		"X-Frame-Options":              "DENY",
	} {
		w.Header().Set(name, value)
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		ctx, cancel := context.WithTimeout(r.Context(), h.options.Timeout)
		defer cancel()
		h.get(ctx, w, r)
	case http.MethodPost:
		h.post(w, r)
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		h.say(w, r, http.StatusMethodNotAllowed, "Method not allowed", "This page answers GET and POST.")
	}
}

func (h *Handler) get(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	last := path.Base(r.URL.Path)
	if strings.HasSuffix(r.URL.Path, "/") {
		last = ""
	}
	switch {
	case last == "style.css":
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		_, _ = w.Write(style)
	case last == "" && strings.TrimSpace(r.FormValue("q")) != "":
		h.search(ctx, w, r)
	case last == "":
		h.showList(ctx, w, r)
	case isDigest(strings.ToLower(last)):
		h.showRecord(ctx, w, r, strings.ToLower(last))
	default:
		h.say(w, r, http.StatusNotFound, "Not found", "There is no such page.")
	}
}

// maxQuestion bounds what is searched for: no key is longer.
const maxQuestion = 64 << 10

// search goes to the record that was asked for, or to the list of a workflow ID.
func (h *Handler) search(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	q := strings.TrimSpace(r.FormValue("q"))
	if len(q) > maxQuestion {
		h.say(w, r, http.StatusBadRequest, "Too long", "Search for a digest, a key or a workflow ID.")
		return
	}
	if digest := strings.ToLower(q); isDigest(digest) {
		found, err := h.reader.withDigest(ctx, digest, 2)
		if err != nil {
			h.fail(w, r, err)
			return
		}
		if len(found) > 0 {
			redirect(w, digest)
			return
		}
	}
	switch record, err := h.reader.load(ctx, q); {
	case err != nil && !errors.Is(err, store.ErrInvalid):
		h.fail(w, r, err)
	case err == nil && record.State != store.Absent:
		redirect(w, keys.Downstream(q))
	default:
		redirect(w, filter{Workflow: q}.URL())
	}
}

// redirect goes to another page of the handler, which is beside the present one: the path
// that the browser knows may be another than the one that arrives here.
func redirect(w http.ResponseWriter, to string) {
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

func (h *Handler) showList(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	f, err := parseFilter(r.URL.Query())
	if err != nil {
		h.say(w, r, http.StatusBadRequest, "Not a list", err.Error()+".")
		return
	}
	l := &list{Filter: f, reader: h.reader, showKeys: h.options.ShowKeys}
	switch {
	case f.IsOpen():
		l.open(ctx, store.State(f.State), pageSize)
	case f.State != "":
		l.settled(ctx)
	default:
		l.open(ctx, store.InDoubt, pageSize)
		l.open(ctx, store.Running, shortSize)
		l.open(ctx, store.Pending, shortSize)
		if f.Workflow != "" {
			l.settled(ctx)
		}
	}
	if l.err != nil {
		h.log(r, l.err)
		if l.now.IsZero() { // nothing was read
			h.unavailable(w, r, l.err)
			return
		}
	}
	l.sortTallies()
	h.send(w, r, http.StatusOK, "list", l.Heading(), l)
}

// frame is what every page has.
type frame struct {
	Title    string // of the site
	Heading  string
	ReadOnly bool
	Page     any
}

// send writes a page.
func (h *Handler) send(w http.ResponseWriter, r *http.Request, status int, name, heading string, content any) {
	var b bytes.Buffer
	if err := h.templates[name].ExecuteTemplate(&b, "frame", frame{h.options.Title, heading, h.options.Resolver == nil, content}); err != nil {
		h.log(r, err)
		http.Error(w, "The page cannot be shown.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

// say writes a page with a message only.
func (h *Handler) say(w http.ResponseWriter, r *http.Request, status int, heading, text string) {
	h.send(w, r, status, "message", heading, text)
}

// fail says that the store has not answered. What it said is not for the page.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	h.log(r, err)
	h.unavailable(w, r, err)
}

func (h *Handler) unavailable(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, store.ErrVersion):
		h.say(w, r, http.StatusBadGateway, "Written by a newer program", "A newer version of the library has written this record. Use a page of that version.")
	case errors.Is(err, store.ErrCorrupt):
		h.say(w, r, http.StatusBadGateway, "Damaged", "The record is damaged and cannot be read. No call of its key runs. The log of this page says more.")
	case isSlow(err):
		w.Header().Set("Retry-After", "5")
		h.say(w, r, http.StatusServiceUnavailable, "The store does not answer",
			"The store has not answered within "+ops.Age(h.options.Timeout)+". Nothing is known about any record. Try again; the log of this page says more.")
	default:
		h.say(w, r, http.StatusBadGateway, "The store cannot be read", "The store has answered with an error. The log of this page says which.")
	}
}

// isSlow reports whether an error says only that there was no answer in time.
func isSlow(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

func (h *Handler) log(r *http.Request, err error) {
	h.options.Logger.ErrorContext(r.Context(), "atmostonce: page", "method", r.Method, "error", err.Error())
}
