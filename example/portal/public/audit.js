import { clock, Counts, drawCodes, drawMinutes, SOURCES, sumOf } from './audit-plots.js'
import { EventTable } from './audit-table.js'
import { make, timeElement } from './shell.js'

const RETRY_MS = 3000
const REMEMBERED = 500

const byId = (id) => document.getElementById(id)
const form = byId('filters')
const counts = new Counts()
const table = new EventTable(byId('rows'))

let filters = {}
let cursor, source, lastId, asking
let clockLead = 0 // of Redis before this browser, in ms
let recent = [] // the last live events: a reply that was under way when they came does not have them
let held = [] // matching events that wait while the table is paused
let isPaused = false
let isUnderstood = true // Redis knows what the filters mean

// Asking -------------------------------------------------------------------------------------------------------------

/** @throws what the server says */
async function ask (path, options) {
  const response = await fetch(path, options)
  if (response.status === 401) window.location.assign('/sign-in')
  if (response.status === 403) window.location.reload() // which says why
  const reply = await response.json()
  if (!response.ok) throw Object.assign(new Error(reply.message), { status: response.status })
  return reply
}

/** The table's events: those of the filters, or older ones. */
async function loadEvents ({ after } = {}) {
  asking?.abort()
  const { signal } = asking = new AbortController()
  byId('older').disabled = true
  form.setAttribute('aria-busy', 'true')
  try {
    const reply = await ask(`/admin/audit/events?${new URLSearchParams({ ...inUtc(filters), ...(after && { after }) })}`, { signal })
    if (after) table.append(reply.entries)
    else table.replace(reply.entries)
    reply.entries.forEach(suggest)
    cursor = reply.cursor
    byId('command').textContent = reply.command ?? ''
    byId('this-process').hidden = reply.command !== undefined
    say('events', '')
    isUnderstood = true
    byId('announcement').textContent = `${table.length} events shown.`
    if (!after) {
      held = []
      for (const entry of recent) offer(entry)
    }
  } catch (error) {
    if (signal.aborted) return
    if (error.status === 400) {
      isUnderstood = false
      table.replace([])
      cursor = undefined
    }
    say('events', error.status ? error.message : 'The portal does not answer.')
  }
  if (signal.aborted) return
  form.removeAttribute('aria-busy')
  byId('older').disabled = false
  showCount()
}

async function loadSummary () {
  const { now, after, minutes, isComplete } = await ask('/admin/audit/summary')
  clockLead = now - Date.now()
  counts.load(minutes)
  byId('window-note').textContent = isComplete ? 'last 30 minutes' : `only since ${minutes.length > 0 ? clock(minutes.at(-1).at) : 'now'}: too much to count`
  return after
}

// Live ---------------------------------------------------------------------------------------------------------------

/** Plots and table anew, then every event from there on. */
async function start () {
  source?.close()
  live('connecting')
  recent = []
  const [after] = await Promise.all([loadSummary().catch(() => undefined), loadEvents()])
  lastId = after
  draw()
  listen()
}

function listen () {
  source = new window.EventSource(`/admin/audit/live${lastId ? `?after=${lastId}` : ''}`)
  source.onopen = () => live('live')
  source.onmessage = ({ data, lastEventId }) => {
    lastId = lastEventId
    take(JSON.parse(data))
  }
  source.addEventListener('away', () => live('away'))
  source.addEventListener('back', () => (notices.events ? start() : live('live')))
  source.addEventListener('stale', start)
  source.onerror = () => {
    live('connecting')
    if (source.readyState === window.EventSource.CLOSED) setTimeout(comeBack, RETRY_MS) // else the browser itself tries again
  }
}

/** Signed out meanwhile, or the portal was away: the first ask tells. */
async function comeBack () {
  await ask('/api/me').then(listen, () => setTimeout(comeBack, RETRY_MS))
}

const STATES = { live: 'Live', connecting: 'Connecting…', away: 'Redis does not answer' }

function live (state) {
  const pill = byId('live')
  if (pill.dataset.state === state) return
  pill.dataset.state = state
  pill.textContent = STATES[state]
}

function take (entry) {
  counts.add(entry)
  suggest(entry)
  recent.push(entry)
  if (recent.length > REMEMBERED) recent.shift()
  offer(entry)
  scheduleDraw()
}

/** Into the table with it, when it belongs there and is not there yet. */
function offer (entry) {
  if (!matches(entry.fields) || (table.newest !== undefined && !isNewer(entry.id, table.newest))) return
  if (isPaused) held.push(entry)
  else cursor = table.prepend(entry) ?? cursor
  showCount()
}

/** As the function tooljet_audit filters. */
function matches (fields) {
  const { email, app, event, outcome, code, until } = filters
  return isUnderstood && until === undefined && // a time that is over
    (email === undefined || fields.email === email.replace(/[A-Z]/g, (letter) => letter.toLowerCase())) &&
    (app === undefined || fields.app === app) &&
    (event === undefined || fields.event === event) &&
    (outcome === undefined || fields.outcome === outcome) &&
    (code === undefined || fields.code === code || fields.code === `TOOLJET_EMBED_${code}`)
}

function isNewer (a, b) {
  const [ms, seq] = a.split('-').map(Number)
  const [otherMs, otherSeq] = b.split('-').map(Number)
  return ms === otherMs ? seq > otherSeq : ms > otherMs
}

// Showing ------------------------------------------------------------------------------------------------------------

const notices = {}

function say (about, text) {
  notices[about] = text
  byId('notice').textContent = Object.values(notices).filter(Boolean).join(' ')
  byId('notice').hidden = byId('notice').textContent === ''
}

function showCount () {
  const shown = `${table.length} shown`
  byId('count').textContent = held.length > 0 ? `${shown}, ${held.length} new` : shown
  byId('older').hidden = cursor === undefined
  byId('nothing').hidden = table.length > 0 || Boolean(notices.events)
  byId('terminal').hidden = Boolean(notices.events) || byId('command').textContent === ''
  byId('nothing').textContent = cursor === undefined ? 'No event matches.' : 'No event matches among those looked at so far: look at older ones.'
}

/** Values that were seen, for the filters to offer. */
function suggest ({ fields }) {
  for (const name of ['email', 'app', 'code']) {
    const list = byId(`seen-${name}`)
    const value = fields[name]
    if (!value || list.children.length >= 100 || [...list.children].some((option) => option.value === value)) continue
    list.append(make('option', { value }))
  }
}

let isDrawing = false
function scheduleDraw () {
  if (isDrawing) return
  isDrawing = true
  window.requestAnimationFrame(draw)
}

function draw () {
  isDrawing = false
  const figures = counts.upTo(Date.now() + clockLead)
  drawMinutes(byId('per-minute'), figures)
  drawCodes(byId('codes'), figures)
  for (const name of SOURCES) byId(`sum-${name}`).textContent = figures.sums[name]
  byId('minute-rows').replaceChildren(...figures.minutes.filter((minute) => sumOf(minute) > 0).reverse().map((minute) => (
    make('tr', {}, make('th', { scope: 'row' }, timeElement(minute.at, clock(minute.at))), ...['minted', 'reused', 'refused'].map((name) => make('td', {}, minute[name]))))))
}

// Filters ------------------------------------------------------------------------------------------------------------

/** The address has the filters: a reload, "back" and a link to a colleague keep them. */
function readAddress () {
  const given = new URLSearchParams(window.location.search)
  for (const { name } of form.querySelectorAll('[name]')) form.elements[name].value = given.get(name) ?? ''
  readForm()
}

function readForm () {
  filters = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]).filter(([, value]) => value !== ''))
}

const LOCAL_TIME = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?))?$/

/** Dates and times without a zone are the reader's, as those that are shown. */
function inUtc ({ ...filters }) {
  for (const name of ['since', 'until']) {
    const [, date, clock = '00:00'] = LOCAL_TIME.exec(filters[name]) ?? []
    const ms = Date.parse(`${date}T${clock}`)
    if (!Number.isNaN(ms)) filters[name] = new Date(ms).toISOString()
  }
  return filters
}

function applyForm () {
  readForm()
  const query = new URLSearchParams(filters).toString()
  window.history.pushState(null, '', query ? `?${query}` : window.location.pathname)
  loadEvents()
}

form.onsubmit = (event) => {
  event.preventDefault()
  applyForm()
}
form.onreset = () => setTimeout(applyForm) // once the fields are empty
for (const select of form.querySelectorAll('select')) select.onchange = applyForm
window.onpopstate = () => {
  readAddress()
  loadEvents()
}
byId('older').onclick = () => loadEvents({ after: cursor })
byId('pause').onclick = () => {
  isPaused = !isPaused
  byId('pause').textContent = isPaused ? 'Resume' : 'Pause'
  const waiting = isPaused ? [] : held.splice(0)
  for (const entry of waiting) offer(entry)
  showCount()
}

byId('zone').textContent = Intl.DateTimeFormat().resolvedOptions().timeZone
readAddress()
await start()
new window.ResizeObserver(scheduleDraw).observe(byId('plots'))
setInterval(scheduleDraw, 5000) // minutes go by without events, too
