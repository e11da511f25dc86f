// Hover values: whatever carries data-tip shows it beside the pointer; a touch does the same. Nothing else runs here.
(() => {
  const tip = document.getElementById("tip");
  const hide = () => tip.classList.remove("shown");
  const show = (event) => {
    const holder = event.target.closest ? event.target.closest("[data-tip]") : null;
    if (!holder) return hide();
    tip.textContent = holder.getAttribute("data-tip");
    tip.classList.add("shown");
    const box = tip.getBoundingClientRect();
    const x = Math.min(event.clientX + 14, window.innerWidth - box.width - 8);
    const below = event.clientY + 18;
    const y = below + box.height > window.innerHeight ? event.clientY - box.height - 12 : below;
    tip.style.left = `${Math.max(8, x)}px`;
    tip.style.top = `${Math.max(8, y)}px`;
  };
  document.addEventListener("pointermove", show, { passive: true });
  document.addEventListener("pointerdown", show, { passive: true });
  document.addEventListener("scroll", hide, { passive: true, capture: true });
})();
