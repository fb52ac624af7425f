import { shortCode } from './audit-plots.js'
import { localTime, make, timeElement } from './shell.js'
import { nameOf } from './user-agent.js'

const MOST_ROWS = 500
const KINDS = { 'url.minted': 'minted', 'url.reused': 'reused', 'url.denied': 'refused', 'url.limited': 'refused', 'url.failed': 'refused' }

/** The events, newest first. All that an event holds is shown as text: names and user agents are what an attacker likes. */
export class EventTable {
  #body
  #ids = []

  constructor (body) {
    this.#body = body
  }

  get length () {
    return this.#ids.length
  }

  get newest () {
    return this.#ids[0]
  }

  replace (entries) {
    this.#ids = []
    this.#body.replaceChildren()
    this.append(entries)
  }

  append (entries) {
    this.#ids.push(...entries.map(({ id }) => id))
    this.#body.append(...entries.map((entry) => rowFor(entry)))
  }

  /** @returns the id of the last row that is left when it was too many, to go on from */
  prepend (entry) {
    this.#ids.unshift(entry.id)
    const row = rowFor(entry)
    row.classList.add('new')
    this.#body.prepend(row)
    if (this.#ids.length <= MOST_ROWS) return
    this.#ids.pop()
    const rows = this.#body.querySelectorAll('tr.event')
    closeDetails(rows[rows.length - 1])
    rows[rows.length - 1].remove()
    return this.#ids.at(-1)
  }
}

function rowFor ({ id, fields }) {
  const time = fields.time ?? ''
  const what = fields.event ?? ''
  const agent = fields.user_agent ?? ''
  const button = make('button', { className: 'fields-button', type: 'button', ariaLabel: `All fields of the event at ${time}`, ariaExpanded: 'false' })
  const row = make('tr', { className: 'event', role: 'row' },
    cell('time', timeOf(time)),
    cell('kind', make('span', { className: `badge ${KINDS[what] ?? 'other'}` }, what.replace(/^url\./, ''))),
    cell('email', fields.email ?? ''),
    cell('app', fields.app ?? ''),
    cell('code', shortCode(fields.code ?? '')),
    cell('from', make('span', {}, fields.ip ?? ''), ' ', make('span', { className: 'agent', title: agent }, nameOf(agent))),
    cell('took', fields.duration_ms === undefined ? '' : `${fields.duration_ms} ms`),
    cell('open', button))
  button.onclick = () => {
    if (!closeDetails(row)) openDetails(row, { id, ...fields })
  }
  return row
}

function timeOf (text) {
  const ms = Date.parse(text)
  if (Number.isNaN(ms)) return text
  const [date, clock] = localTime(ms).split(' ')
  return timeElement(ms, make('span', {}, date), ' ', clock)
}

function openDetails (row, fields) {
  const list = make('dl', {}, ...Object.entries(fields).map(([name, value]) => (
    make('div', {}, make('dt', {}, name), make('dd', {}, value)))))
  row.after(make('tr', { className: 'details', role: 'row' }, make('td', { colSpan: 8, role: 'cell' }, list)))
  row.querySelector('button').ariaExpanded = 'true'
}

/** @returns whether they were open */
function closeDetails (row) {
  const details = row.nextElementSibling
  if (!details?.classList.contains('details')) return false
  details.remove()
  row.querySelector('button').ariaExpanded = 'false'
  return true
}

function cell (className, ...children) {
  return make('td', { className, role: 'cell' }, ...children)
}
