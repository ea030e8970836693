//! Text below the options in `--help` and the manual pages: examples of each command, and its exit codes where scripts need them.
//! A test parses every example. Each paragraph is one line: clap wraps it.

pub const PROGRAM: &str = "\
Examples:
  conversica-sync demo      try it: a sample CRM and a local Conversica, nothing to set up
  conversica-sync init      look at your database and write a configuration file
  conversica-sync check     is everything ready?
  conversica-sync plan      what would be sent, and why
  conversica-sync once      one pass, then end
  conversica-sync run       the daemon
  conversica-sync status    the state of the service, and what needs a person

Exit codes: 0 done, 1 unexpected failure, 2 usage or configuration, 3 leads need attention, 4 halted, held or paused, a damaged \
post may be an opt-out, or nothing could be delivered.

Colours and bars appear on a terminal only; NO_COLOR=1 turns colours off.";

pub const RUN: &str = "\
Examples:
  conversica-sync run
  conversica-sync --config /etc/conversica-sync/acme.toml run

Exit codes: 0 stopped by a signal, 1 unexpected failure, 2 usage or configuration.";

pub const ONCE: &str = "\
Examples:
  conversica-sync once                  one pass, with a bar on a terminal
  conversica-sync once --full           compare every row, whatever is due
  conversica-sync once --max-wait 0s    do not wait for retries
  conversica-sync once --json           the summary for scripts

Exit codes: 0 done, 1 unexpected failure, 2 usage or configuration, 3 leads need attention, 4 halted, held or paused, a damaged \
post may be an opt-out, or leads wait and none could be delivered.";

pub const PLAN: &str = "\
Examples:
  conversica-sync plan                     what a pass would send, and why
  conversica-sync plan --limit 5           with five leads shown one by one
  conversica-sync plan --only invalid      only rows that make no valid lead are shown
  conversica-sync plan --lead 4711         only that one
  conversica-sync plan --json              all of it for scripts

Exit codes: 0 nothing in the way, 2 usage or configuration, 3 rows make no valid lead, 4 held.";

pub const CHECK: &str = "\
Examples:
  conversica-sync check                     the list; sends nothing
  conversica-sync check --json              the same for scripts
  conversica-sync check --send-test-lead    when all is well, send one made-up lead
  conversica-sync check --send-test-lead --test-email me@example.com    to an address of your own

Each line begins with ok, look (works, but worth a look), BAD (must be fixed) or skip (depends on \
something that is BAD).

Exit codes: 0 nothing to fix, 2 something must be fixed; with --send-test-lead also 3 it was not accepted, 4 halted.";

pub const HEALTH: &str = "\
Examples:
  conversica-sync health            is the daemon alive?
  conversica-sync health --ready    and are leads found and sent?
  conversica-sync health --address 127.0.0.1:9464    without reading any settings

One request to the address of [admin] listen, with a time limit of 5 seconds.

Exit codes: 0 yes, 1 no, or no answer, 2 usage or configuration.";

pub const STATUS: &str = "\
Examples:
  conversica-sync status           the state of the service
  conversica-sync status --json    the same for scripts

Exit codes: 0 nothing to do, 2 usage or configuration, 3 leads need attention, 4 halted, held or paused, a damaged post may be \
an opt-out, or a running service has lost its state file.";

pub const LEADS: &str = "\
Examples:
  conversica-sync leads                            leads that wait or need the operator
  conversica-sync leads --status rejected          what Conversica refused
  conversica-sync leads --reason email --limit 10  ten that have to do with an e-mail address
  conversica-sync leads --status held --json       for scripts";

pub const LEAD: &str = "\
Examples:
  conversica-sync lead 4711                   its whole story
  conversica-sync lead 4711 --client north    of that client
  conversica-sync lead 4711 --json            for scripts
  conversica-sync lead 4711 --export --output person.json    all that is held of a person
  conversica-sync lead 4711 --erase --stop-first    delete it, never write to them again
  conversica-sync lead 4711 --allow           take that back

An erasure needs Conversica to have stopped: --stop-first tells it and waits; --conversica-told says that it \
was taken care of there. Nothing of the CRM or of Conversica is deleted.

Exit codes: 0 done, 2 usage or configuration, or not erased yet, 4 not done: the operator declined.";

pub const RECEIVED: &str = "\
Examples:
  conversica-sync received                   what Conversica has posted, the newest
  conversica-sync received --id 4711         about one lead
  conversica-sync received --unreadable      what could not be read, and why
  conversica-sync received --possible-opt-outs    damaged posts that may be opt-outs
  conversica-sync received 12                one post, exactly as it came
  conversica-sync received confirm 12        it is an opt-out
  conversica-sync received dismiss 12        it is none
  conversica-sync received replay --all      read again, after an upgrade";

pub const RECEIVED_SHOW: &str = "\
Examples:
  conversica-sync received show 12";

pub const RECEIVED_CONFIRM: &str = "\
Examples:
  conversica-sync received --possible-opt-outs
  conversica-sync received confirm 12

The person gets no more messages, whatever the CRM says.

Exit codes: 0 done, 2 usage or configuration, or the post does not wait for it.";

pub const RECEIVED_DISMISS: &str = "\
Examples:
  conversica-sync received dismiss 12

What the CRM says about consent counts again, from the next full compare on or when the row changes.

Exit codes: 0 done, 2 usage or configuration, or the post does not wait for it.";

pub const RECEIVED_REPLAY: &str = "\
Examples:
  conversica-sync received replay --all                     all that could not be read
  conversica-sync received replay 12 --body fixed.json     that one, as you have fixed it

Exit codes: 0 read, 2 usage or configuration, 3 some still cannot be read.";

pub const APPROVE: &str = "\
Examples:
  conversica-sync approve                             show what is held, and ask
  conversica-sync approve 4711 4712                   these two only
  conversica-sync approve --reason first_run --yes    without asking

Exit codes: 0 done, 2 usage or configuration, or no terminal to ask on and no --yes, 4 not released: you answered no, or more \
is held than was shown.";

pub const BASELINE: &str = "\
Examples:
  conversica-sync baseline                             show what is held, and ask
  conversica-sync baseline 4711                        this one only
  conversica-sync baseline --reason first_run --yes    without asking

Exit codes: 0 done, 2 usage or configuration, or no terminal to ask on and no --yes, 4 not released: you answered no, or more \
is held than was shown.";

pub const RETRY: &str = "\
Examples:
  conversica-sync retry 4711                  one lead
  conversica-sync retry --status exhausted    whatever failed for too long
  conversica-sync retry --reason repName      whose last answer has that word
  conversica-sync retry --all                 rejected and exhausted ones";

pub const RESEND: &str = "\
Examples:
  conversica-sync resend 4711                      one lead
  conversica-sync resend --conversation Spring     after the conversation was switched on
  conversica-sync resend --accepted-from 2026-11-01T08:00:00Z --accepted-to 2026-11-01T12:00:00Z
  conversica-sync resend --unconfirmed             accepted a week ago, and no post about them
  conversica-sync resend --assumed                 a baseline assumed them known

Conditions add up. Only leads that nothing waits for are sent again, with their newest content; people are asked about \
before. They leave when the next poll has found their rows; more than [safety] approve_above wait for \
`approve --reason resend` first.

Exit codes: 0 sent again, 2 usage or configuration, or no lead fits, 4 they wait for approval, or nothing was changed.";

pub const RESUME: &str = "\
Examples:
  conversica-sync status    says what the halt is about
  conversica-sync resume    once that is fixed";

pub const PAUSE: &str = "\
Examples:
  conversica-sync pause --reason prices    everybody, until an operator runs unpause
  conversica-sync pause --until 2h         for two hours
  conversica-sync pause --until 2099-12-27T08:00:00Z --reason holidays
  conversica-sync pause --conversation Spring --conversation Fall

A pause holds for all instances and survives restarts. There is one for everybody and one for each conversation; a new one \
replaces that of the same scope. Withdrawals of consent are sent all the same, and posts are received.

Exit codes: 0 paused, 2 usage or configuration, or an end that is in the past.";

pub const UNPAUSE: &str = "\
Examples:
  conversica-sync unpause                          ends every pause
  conversica-sync unpause --conversation Spring    only that one

Exit codes: 0 ended, 2 usage or configuration, or that is not paused.";

pub const TEST: &str = "\
Examples:
  conversica-sync test mapping.test.toml
  conversica-sync --config conversica-sync.toml test tests/new.toml tests/sold.toml

A file has tests like these; columns that a row leaves out are NULL:
  [[test]]
  name = \"a sold lead\"
  row = { id = 4711, first_name = \"Ann\", status = 2 }
  lead = { id = \"4711\", firstName = \"Ann\", leadStatus = \"Sold\" }
  [[test]]
  row = { id = 4712, mail = \"ann at example.com\" }
  invalid = [\"email\"]

lead is the whole Lead object, has = { } some of its keys, lacks = [ ] keys that it does not have, invalid = [ ] parts of the \
reasons, notes = [ ] parts of the notes on values that were cleaned or left out.

Exit codes: 0 all pass, 1 a test fails, 2 usage or configuration.";

pub const DASHBOARD: &str = "\
Examples:
  conversica-sync dashboard
  conversica-sync dashboard --address 127.0.0.1:41271    with port 0, as the log of run says

The link is valid for ten minutes and signs in once; the session lasts twelve hours at most. No token is needed: a user \
who can write the state can decide anyway.

Exit codes: 0 printed, 2 usage or configuration, or there is no state yet.";

pub const SUPPRESS: &str = "\
Examples:
  conversica-sync suppress import do-not-write.txt
  conversica-sync suppress add ann@example.com +15558675309 competitor.example
  conversica-sync suppress list";

pub const SUPPRESS_ADD: &str = "\
Examples:
  conversica-sync suppress add ann@example.com
  conversica-sync suppress add +15558675309          in international form
  conversica-sync suppress add competitor.example    all addresses of a domain

The next pass applies it to leads under any id: a new person is not introduced (status suppressed), a known one is sent with the \
opt-out: optOut for an address or a domain, smsOptOut for a number. Addresses are compared without case; dots and tags count.";

pub const SUPPRESS_REMOVE: &str = "\
Examples:
  conversica-sync suppress remove ann@example.com

The next pass reads the leads concerned anew, and sends what their rows say.

Exit codes: 0 removed, 2 usage or configuration, or an entry that is not on the list; the others are removed.";

pub const SUPPRESS_IMPORT: &str = "\
Examples:
  conversica-sync suppress import do-not-write.txt
  conversica-sync suppress import -    from standard input

Blank lines and lines that begin with # are skipped. A line without a usable entry is named by its number. The list is best imported \
before the first pass: it makes the state if there is none.

Exit codes: 0 all lines are on the list, 2 usage or configuration, 3 some lines have no usable entry.";

pub const SUPPRESS_LIST: &str = "\
Examples:
  conversica-sync suppress list                    how many entries there are
  conversica-sync suppress list ann@example.com    whether, and why, this address is not written to
  conversica-sync suppress list --json

The state has keyed hashes, so the entries themselves cannot be listed.";

pub const BACKUP: &str = "\
Examples:
  conversica-sync backup /var/backups/conversica-sync-state.db

The copy is whole, and readable for its owner alone. Put in place of the state it holds what it would send, for
it is older than what Conversica has. A state in PostgreSQL is copied by pg_dump.";

pub const RESTORED: &str = "\
Examples:
  conversica-sync restored      after pg_restore, or after a copy that was not made by backup
  conversica-sync plan          what would be sent now
  conversica-sync approve       once that is right";

pub const TRIGGERS: &str = "\
Examples:
  conversica-sync triggers print      the script, to read it
  conversica-sync triggers install    make them
  conversica-sync triggers remove     remove them without a trace";

pub const TRIGGERS_PRINT: &str = "\
Examples:
  conversica-sync triggers print                   to read it
  conversica-sync triggers print --role reader     for that role
  conversica-sync triggers print --remove          what removes them again
  conversica-sync triggers print | psql -v ON_ERROR_STOP=1 postgres://owner@localhost/crm";

pub const TRIGGERS_INSTALL: &str = "\
Examples:
  conversica-sync triggers install                              show, ask, make
  conversica-sync triggers install --url-file owner.url --yes    as the table's owner, unasked

Exit codes: 0 done, 2 usage or configuration, 4 not done: the operator declined.";

pub const TRIGGERS_REMOVE: &str = "\
Examples:
  conversica-sync triggers remove                              show, ask, remove
  conversica-sync triggers remove --url-file owner.url --yes    as the table's owner, unasked

Exit codes: 0 done, 2 usage or configuration, 4 not done: the operator declined.";

pub const WRITEBACK: &str = "\
Examples:
  conversica-sync writeback print      the script that makes the tables
  conversica-sync writeback stopped    what the CRM refused, and why
  conversica-sync writeback retry --all";

pub const WRITEBACK_PRINT: &str = "\
Examples:
  conversica-sync writeback print                  to read it
  conversica-sync writeback print --role writer    with the rights for that role
  conversica-sync writeback print | psql -v ON_ERROR_STOP=1 postgres://owner@localhost/crm";

pub const WRITEBACK_STOPPED: &str = "\
Examples:
  conversica-sync writeback stopped           what the CRM refused, and why
  conversica-sync writeback stopped --json    for scripts";

pub const WRITEBACK_RETRY: &str = "\
Examples:
  conversica-sync writeback retry 4711        what is stopped of that lead
  conversica-sync writeback retry --event 12  one event
  conversica-sync writeback retry --all       everything";

pub const SANDBOX: &str = "\
Examples:
  conversica-sync sandbox                                 takes leads at http://127.0.0.1:8099/json/
  conversica-sync sandbox --faults 500=5%,timeout=1%      and fails now and then
  conversica-sync sandbox --receiver http://127.0.0.1:8443    and plays conversations back";

pub const DEMO: &str = "\
Examples:
  conversica-sync demo                                until Ctrl-C
  conversica-sync demo --once                         ends by itself, for scripts
  conversica-sync demo --crm conversica-sync.toml     your own leads, to a local Conversica";

pub const COMPLETIONS: &str = "\
Examples:
  conversica-sync completions bash > ~/.local/share/bash-completion/completions/conversica-sync
  conversica-sync completions zsh > ~/.zfunc/_conversica-sync
  conversica-sync completions fish > ~/.config/fish/completions/conversica-sync.fish
  conversica-sync completions elvish >> ~/.config/elvish/rc.elv
  conversica-sync completions powershell >> $PROFILE

Then open a new shell. bash needs the package bash-completion; zsh needs `fpath+=~/.zfunc` in ~/.zshrc before \
compinit is called. For every user of a machine: /usr/share/bash-completion/completions/conversica-sync, \
/usr/share/zsh/site-functions/_conversica-sync, /usr/share/fish/vendor_completions.d/conversica-sync.fish.";

pub const MAN: &str = "\
Examples:
  conversica-sync man | man -l -                                  read it now
  conversica-sync man --directory ~/.local/share/man/man1         for yourself: one page a command
  conversica-sync man --directory /usr/local/share/man/man1       for everybody

Then `man conversica-sync` and, for each command, `man conversica-sync-plan`.";

pub const CONFIG: &str = "\
Examples:
  conversica-sync config show    every setting, and where it came from
  conversica-sync config schema > schema.json";

pub const CONFIG_SHOW: &str = "\
Examples:
  conversica-sync config show           in columns
  conversica-sync config show --json    for scripts";

pub const CONFIG_SCHEMA: &str = "\
Examples:
  conversica-sync config schema > schema.json    for an editor that completes and checks";

pub const RECONCILE: &str = "\
Examples:
  conversica-sync reconcile                                     totals, and what needs a person
  conversica-sync reconcile --repair                            puts back in the queue what can be
  conversica-sync reconcile --format csv --output leads.csv     every lead that does not match
  conversica-sync reconcile --format html --output report.html  a page to send to somebody
  conversica-sync reconcile --ignore gone,not_worked            these are no difference (for cron)

Exit codes: 0 everything matches, 2 usage or configuration, 3 there are differences.";

pub const INIT: &str = "\
Examples:
  conversica-sync init                                        asks what it needs
  conversica-sync init --url sqlite:///var/lib/crm/crm.db
  conversica-sync init --url-file crm_url --username acme-api --conversation Spring --yes
  conversica-sync init --table crm.leads --value repName=Sales
  conversica-sync init --url postgres://reader@db/crm --map cellPhone=mobile_2 --map leadType=

The database is opened read-only, and nothing is sent. On a terminal, what cannot be known is asked;
without one, or with --yes, it has to be given: --url (or --url-file), --username, --conversation, and
what else the message names. The password is never asked for: the file names a file for it.
Tables of users and staff are taken only if --table names them. Exit code 3: no row makes a valid lead
(or the table has no rows); the file is then written only after a confirmation, or with --yes.";
