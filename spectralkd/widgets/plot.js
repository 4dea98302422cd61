// Draws the model's figure, whole, whenever a view opens and whenever the figure changes.

const LIBRARY = Symbol.for('spectralkd.plotly') // plotly.js, once a page

function load(model) {
  globalThis[LIBRARY] ??= read(model).catch(error => {
    delete globalThis[LIBRARY]
    throw error
  })
  return globalThis[LIBRARY]
}

async function read(model) {
  const id = model.get('library').slice('IPY_MODEL_'.length)
  const source = (await model.widget_manager.get_model(id)).get('code')
  const module = `const module = { exports: {} };\n${source}\n;export default module.exports`
  const url = URL.createObjectURL(new Blob([module], { type: 'text/javascript' }))
  return (await import(url)).default
}

// Light ink on a dark page, and grid lines that both themes show.
function themed(figure, ink) {
  const lines = { gridcolor: '#8885', linecolor: '#8885', zerolinecolor: '#8885' }
  const layout = figure.layout
  const base = layout.template?.layout ?? {}
  const clear = { paper_bgcolor: '#0000', plot_bgcolor: '#0000' }
  layout.template = {
    ...layout.template,
    layout: {
      ...base,
      ...clear,
      font: { ...base.font, color: ink },
      xaxis: { ...base.xaxis, ...lines },
      yaxis: { ...base.yaxis, ...lines },
      modebar: { bgcolor: '#0000', color: '#888', activecolor: ink },
    },
  }
  return figure
}

async function render({ model, el }) {
  hear(model)
  const plot = document.createElement('div')
  const bar = document.createElement('div')
  el.classList.add('spectralkd-plot')
  plot.className = 'spectralkd-panels'
  bar.className = 'spectralkd-save'
  plot.setAttribute('role', 'img')
  el.append(plot, bar)
  const plotly = await load(model)
  const figure = () => JSON.parse(model.get('drawn'))
  const name = () => model.get('label').toLowerCase().replaceAll(/\W+/g, '-')
  const width = () => Math.floor(el.clientWidth)
  // Several panels keep a width at which their labels have room: a narrower page scrolls.
  const wide = layout => Math.max(width(), layout.xaxis2 ? 640 : 0)
  const ink = () => getComputedStyle(el).color

  let shown = Promise.resolve()
  let asked = false
  let closed = false
  let last = 0 // width
  let inked = '' // the theme's color of text
  let below = 0 // pixels that a legend of several lines needs beyond one
  function draw() { // one after the other; what comes meanwhile is drawn once
    if (asked) return
    asked = true
    shown = shown.catch(() => {}).then(async () => {
      asked = false
      last = width()
      if (closed || !last) return // in a folded part: drawn when it opens
      inked = ink()
      const { data, layout } = themed(figure(), inked)
      plot.setAttribute('aria-label', model.get('label'))
      const height = layout.height ?? 450
      const sized = () => ({ ...layout, width: wide(layout), height: height + below,
        uirevision: layout.uirevision ?? '-',
        margin: { ...layout.margin, b: (layout.margin?.b ?? 80) + below } })
      await plotly.react(plot, data, sized(), { displaylogo: false })
      const needs = layout.legend?.orientation === 'h' ? legend() : 0
      if (Math.abs(needs - below) > 2) {
        below = needs
        await plotly.react(plot, data, sized(), { displaylogo: false })
      }
    })
  }
  function legend() {
    const box = plot.querySelector('.legend')?.getBoundingClientRect()
    return box ? Math.max(0, Math.ceil(box.height) - 30) : 0
  }

  function offer(text, title, save) {
    const button = document.createElement('button')
    Object.assign(button, { type: 'button', textContent: text, title, onclick: save })
    bar.append(button)
    return button
  }
  const download = (href, ending) =>
    Object.assign(document.createElement('a'), { href, download: `${name()}.${ending}` }).click()
  let waiting = false
  function ask(kind) {
    try {
      model.send({ save: kind })
      waiting = true
      note.textContent = `Saving ${kind.toUpperCase()} …`
    } catch (error) {
      note.textContent = `Not saved: ${error.message}`
    }
  }
  bar.append('Save figure: ')
  offer('SVG', 'Vector graphics', async () => {
    const shown = figure()
    const size = { format: 'svg', width: wide(shown.layout), height: plot.offsetHeight }
    download(await plotly.toImage(shown, size), 'svg')
  })
  for (const kind of model.get('kinds')) {
    const title = kind === 'pdf' ? 'Vector graphics for a paper' : 'An interactive page'
    offer(kind.toUpperCase(), title, () => ask(kind))
  }
  const note = bar.appendChild(document.createElement('span'))
  note.setAttribute('role', 'status')
  function receive(message, buffers) {
    if (!waiting) return // another view of the same figure asked
    waiting = false
    note.textContent = message.error ?? ''
    if (message.error) return
    const url = URL.createObjectURL(new Blob(buffers))
    download(url, message.kind)
    setTimeout(() => URL.revokeObjectURL(url), 60_000) // the browser has it by then
  }

  model.on('change:drawn', draw)
  model.on('msg:custom', receive)
  const sizes = new ResizeObserver(() => { if (width() !== last) draw() })
  sizes.observe(el)
  const theme = setInterval(() => { if (ink() !== inked) draw() }, 500)
  draw()
  return () => {
    closed = true
    model.off('change:drawn', draw)
    model.off('msg:custom', receive)
    sizes.disconnect()
    clearInterval(theme)
    plotly.purge(plot)
  }
}

export default { render }
