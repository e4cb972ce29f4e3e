"use strict";
{
  const button = document.getElementById("theme");
  const root = document.documentElement;
  button.hidden = false;
  button.addEventListener("click", () => {
    const chosen = root.style.colorScheme;
    const isDark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.style.colorScheme = isDark ? "light" : "dark";
  });

  // Whether white is read better than black on a colour, by WCAG's contrast.
  const dark = (colour) => {
    const [r, g, b] = [1, 3, 5].map((at) => {
      const part = parseInt(colour.slice(at, at + 2), 16) / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b < 0.179;
  };

  for (const clip of document.querySelectorAll("[data-clip]")) {
    const data = JSON.parse(clip.querySelector("script").textContent);
    const video = clip.querySelector("video");
    const strip = clip.querySelector(".strip");
    const line = clip.querySelector(".playhead");
    const now = clip.querySelector(".now");
    let shown = -2;

    // The window that begins at the frame, or last began, where the frame is within it.
    const windowAt = (frame) => {
      let low = 0, high = data.starts.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (data.starts[middle] <= frame) low = middle + 1; else high = middle;
      }
      return low && frame < data.starts[low - 1] + data.length ? low - 1 : -1;
    };

    const show = (frame) => {
      line.style.left = `${(100 * Math.min(frame + 0.5, data.frames)) / data.frames}%`;
      strip.setAttribute("aria-valuenow", Math.floor(frame));
      const place = windowAt(Math.floor(frame));
      if (place === shown) return;
      shown = place;
      now.replaceChildren(...(place < 0 ? [] : data.ids[place]).map((id) => {
        const cell = document.createElement("span");
        const colour = data.colours[id];
        cell.textContent = id;
        cell.style.background = colour;
        cell.style.color = dark(colour) ? "#fff" : "#000";
        return cell;
      }));
      if (place >= 0) strip.setAttribute("aria-valuetext", `frame ${Math.floor(frame)}: ids ${data.ids[place].join(" ")}`);
    };

    let frame = 0;
    const go = (to) => {
      frame = Math.max(0, Math.min(data.frames - 1, to));
      if (video && data.fps) video.currentTime = (frame + 0.01) / data.fps;
      show(frame);
    };

    const seek = (event) => {
      const box = strip.getBoundingClientRect();
      go(Math.floor((data.frames * (event.clientX - box.left)) / box.width));
    };
    strip.addEventListener("pointerdown", (event) => {
      if (video) video.pause();
      strip.setPointerCapture(event.pointerId);
      seek(event);
    });
    strip.addEventListener("pointermove", (event) => { if (event.buttons) seek(event); });
    strip.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -data.length, PageUp: data.length }[event.key];
      const to = event.key === "Home" ? 0 : event.key === "End" ? data.frames : by && frame + by;
      if (to === undefined) return;
      event.preventDefault();
      if (video) video.pause();
      go(to);
    });

    if (video && data.fps) {
      const follow = () => {
        frame = Math.min(video.currentTime * data.fps, data.frames - 1);
        show(frame);
        if (!video.paused) requestAnimationFrame(follow);
      };
      for (const event of ["play", "seeked", "timeupdate"]) video.addEventListener(event, follow);

      // Below the picture, which the browser's own would cover.
      const play = document.createElement("button");
      const label = () => {
        play.textContent = video.paused ? "\u25b6" : "\u275a\u275a";
        play.setAttribute("aria-label", `${video.paused ? "Play" : "Pause"} the clip`);
      };
      const toggle = () => { if (video.paused) video.play(); else video.pause(); };
      play.type = "button";
      play.className = "play";
      play.addEventListener("click", toggle);
      video.addEventListener("click", toggle);
      for (const event of ["play", "pause"]) video.addEventListener(event, label);
      video.controls = false;
      clip.querySelector(".film").prepend(play);
      label();
    }
    show(0);
  }
}
