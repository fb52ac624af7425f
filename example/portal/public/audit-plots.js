import { localTime } from './shell.js'

const MINUTE = 60_000
const MINUTES = 30
export const SOURCES = ['reused', 'minted', 'refused'] // from the bottom up
const SOURCE_OF = { 'url.minted': 'minted', 'url.reused': 'reused', 'url.denied': 'refused', 'url.limited': 'refused', 'url.failed': 'refused' }

const SVG = 'http://www.w3.org/2000/svg'
/** In the reader's zone. */
export const clock = (ms) => localTime(ms).slice(11, 16)
const utcClock = (ms) => new Date(ms).toISOString().slice(11, 16)
export const shortCode = (code) => code.replace(/^TOOLJET_EMBED_/, '')

/** Answers of the last half hour, by the minute in which Redis got them: an event's id tells. */
export class Counts {
  #minutes = new Map()

  /** @param minutes counted by Redis; what comes later is added one by one */
  load (minutes) {
    this.#minutes = new Map(minutes.map((minute) => [minute.at, minute]))
  }

  add ({ id, fields }) {
    const source = SOURCE_OF[fields.event]
    if (source === undefined) return
    const ms = Number(id.split('-')[0])
    const minute = this.#minuteAt(ms - ms % MINUTE)
    minute[source]++
    if (source === 'refused' && fields.code) minute.codes[fields.code] = (minute.codes[fields.code] ?? 0) + 1
    this.#minutes.set(minute.at, minute)
  }

  /** @returns the minutes up to now, and the sums over them */
  upTo (now) {
    const newest = now - now % MINUTE
    const oldest = newest - (MINUTES - 1) * MINUTE
    for (const at of this.#minutes.keys()) if (at < oldest) this.#minutes.delete(at)
    const minutes = Array.from({ length: MINUTES }, (_, i) => this.#minuteAt(oldest + i * MINUTE))
    const sums = Object.fromEntries(SOURCES.map((source) => [source, minutes.reduce((sum, minute) => sum + minute[source], 0)]))
    const codes = new Map()
    for (const minute of minutes) for (const [code, count] of Object.entries(minute.codes)) codes.set(code, (codes.get(code) ?? 0) + count)
    return { minutes, sums, codes: [...codes].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1)) }
  }

  #minuteAt (at) {
    return this.#minutes.get(at) ?? { at, minted: 0, reused: 0, refused: 0, codes: Object.create(null) }
  }
}

export const sumOf = (minute) => SOURCES.reduce((sum, source) => sum + minute[source], 0)
export const inWords = (counts) => `${counts.minted} minted, ${counts.reused} reused, ${counts.refused} refused`

/** Stacked bars, one for each minute. */
export function drawMinutes (svg, { minutes, sums }) {
  const [width, height] = [svg.clientWidth || 600, 190]
  const [left, top, bottom] = [30, 10, 166]
  const most = niceMost(Math.max(...minutes.map(sumOf)))
  const step = (width - left) / MINUTES
  const y = (count) => bottom - (bottom - top) * count / most

  const grid = [0, most / 2, most].flatMap((count) => [
    shape('line', { class: 'grid', x1: left, x2: width, y1: y(count), y2: y(count) }),
    shape('text', { x: left - 6, y: y(count) + 4, 'text-anchor': 'end' }, count),
  ])
  const every = width < 480 ? 10 : 5
  const times = minutes.flatMap(({ at }, i) => (at / MINUTE % every === 0
    ? [shape('text', { x: clamp(left + (i + 0.5) * step, left + 16, width - 16), y: height - 6, 'text-anchor': 'middle' }, clock(at))]
    : []))
  const bars = minutes.map((minute, i) => {
    const x = left + i * step
    let stacked = 0
    const parts = SOURCES.filter((source) => minute[source] > 0).map((source) => {
      const [from, to] = [y(stacked), y(stacked += minute[source])]
      // a line of background between two of them, as far as the thinnest allows
      return shape('rect', { class: source, x: x + step * 0.14, y: to, width: step * 0.72, height: Math.max(from - to - 1.5, 1), rx: 1.5 })
    })
    const title = shape('title', {}, `${clock(minute.at)} (${utcClock(minute.at)} UTC): ${inWords(minute)}`)
    return shape('g', {}, shape('rect', { class: 'hit', x, y: top, width: step, height: bottom - top }), ...parts, title)
  })
  show(svg, width, height, [...grid, ...times, ...bars])

  const busiest = minutes.reduce((a, b) => (sumOf(b) > sumOf(a) ? b : a))
  svg.setAttribute('aria-label', sumOf(sums) === 0
    ? 'Answers per minute: none in the last 30 minutes.'
    : `Answers per minute in the last 30 minutes: ${inWords(sums)}. The busiest minute was ${clock(busiest.at)} with ${sumOf(busiest)}.`)
}

const MOST_CODES = 6

/** A bar for each code, the most frequent first. */
export function drawCodes (svg, { codes }) {
  const width = svg.clientWidth || 320
  const rest = codes.slice(MOST_CODES).reduce((sum, [, count]) => sum + count, 0)
  const rows = [...codes.slice(0, MOST_CODES), ...(rest > 0 ? [['other codes', rest]] : [])]
  const most = Math.max(1, ...rows.map(([, count]) => count))
  const drawn = rows.flatMap(([code, count], i) => [
    shape('text', { class: 'code', x: 0, y: 14 + i * 34 }, shortCode(code)),
    shape('text', { class: 'number', x: width, y: 14 + i * 34, 'text-anchor': 'end' }, count),
    shape('rect', { class: 'track', x: 0, y: 20 + i * 34, width, height: 7, rx: 3.5 }),
    shape('rect', { class: 'refused', x: 0, y: 20 + i * 34, width: Math.max(width * count / most, 4), height: 7, rx: 3.5 }),
  ])
  const nothing = [shape('text', { class: 'none', x: width / 2, y: 96, 'text-anchor': 'middle' }, 'Nobody was refused.')]
  show(svg, width, Math.max(190, rows.length * 34), rows.length > 0 ? drawn : nothing)
  svg.setAttribute('aria-label', rows.length === 0
    ? 'Refusals by code: none in the last 30 minutes.'
    : `Refusals by code in the last 30 minutes: ${rows.map(([code, count]) => `${shortCode(code)} ${count}`).join(', ')}.`)
}

function show (svg, width, height, shapes) {
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`)
  svg.setAttribute('height', height)
  svg.replaceChildren(...shapes)
}

function shape (name, attributes, ...children) {
  const made = document.createElementNS(SVG, name)
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value)
  made.append(...children.map((child) => (child instanceof window.Node ? child : String(child))))
  return made
}

/** An even number, so that half of it is a number of answers too. */
function niceMost (count) {
  for (let power = 1; ; power *= 10) {
    for (const most of [2, 4, 6, 8]) if (count <= most * power && most * power >= 4) return most * power
    if (count <= 10 * power) return 10 * power
  }
}

function clamp (value, least, most) {
  return Math.min(Math.max(value, least), most)
}
